/**
 * `@megapipe/core`: MegaPipe's channel for Node.js. See README.md for a first server, ARCHITECTURE.md for the why.
 */
export {
  type AcceptedSocket,
  type BackendName,
  type ChannelOptions,
  type ChannelStats,
  type Handle,
  type RegisterOptions,
  type Sink,
  SLOT_BITS,
  SLOT_MASK,
  type UringFeatures,
  Write,
  type WriteResult,
} from './api.ts';
export { Channel } from './channel.ts';
export { errnoMessage, errnoName, MegapipeError } from './errors.ts';
export { FileLoader, type FileState, isDirectory, isRegularFile } from './file-loader.ts';
export {
  closeDescriptor,
  connectDatagram,
  getAffinity,
  type ListenTcpOptions,
  type ListenTuning,
  type ListenUnixOptions,
  listenTcp,
  listenUnix,
  localAddress,
  type SocketAddress,
  type SocketAddress as LocalAddress,
  setAffinity,
  tuneListener,
} from './listen.ts';
export { ListenGroup, type ListenGroupOptions, type ListenGroupShare, listenGroup } from './listen-group.ts';
export {
  adviseHugePages,
  descriptorLimit,
  discardMemory,
  ensureCoreFiles,
  ensureDescriptors,
  limitCoreFiles,
  limitDescriptors,
  lockMemory,
  startThread,
  trimProcess,
} from './process.ts';
export { bindMemoryFile, createSharedMemory, mapSharedMemory } from './shared-memory.ts';
