/** Packets of the binary protocol, made and read. */
export interface PacketParts {
  key?: string;
  extras?: Buffer;
  value?: string | Buffer;
  cas?: bigint;
  opaque?: number;
  /** Instead of the true ones. */
  keyLength?: number;
  bodyLength?: number;
  magic?: number;
}

export function packet(opcode: number, parts: PacketParts = {}): Buffer {
  const key = Buffer.from(parts.key ?? '', 'latin1');
  const value = typeof parts.value === 'object' ? parts.value : Buffer.from(parts.value ?? '', 'latin1');
  const extras = parts.extras ?? Buffer.alloc(0);
  const header = Buffer.alloc(24);
  header[0] = parts.magic ?? 0x80;
  header[1] = opcode;
  header.writeUInt16BE(parts.keyLength ?? key.length, 2);
  header[4] = extras.length;
  header.writeUInt32BE(parts.bodyLength ?? key.length + extras.length + value.length, 8);
  header.writeUInt32BE(parts.opaque ?? 0xdeadbeef, 12);
  header.writeBigUInt64BE(parts.cas ?? 0n, 16);
  return Buffer.concat([header, extras, key, value]);
}

export function u32(...numbers: number[]): Buffer {
  const bytes = Buffer.alloc(numbers.length * 4);
  for (const [i, number] of numbers.entries()) bytes.writeUInt32BE(number, i * 4);
  return bytes;
}

export function deltaExtras(delta: bigint, initial: bigint, exptime: number): Buffer {
  const bytes = Buffer.alloc(20);
  bytes.writeBigUInt64BE(delta, 0);
  bytes.writeBigUInt64BE(initial, 8);
  bytes.writeUInt32BE(exptime, 16);
  return bytes;
}

/** Responses in words: opcode, status, key, extras, value, CAS. What is no response stands at the end as it is. */
export function readPackets(answer: Buffer): string[] {
  const packets: string[] = [];
  let at = 0;
  while (at + 24 <= answer.length && answer[at] === 0x81) {
    const keyLength = answer.readUInt16BE(at + 2);
    const extrasLength = answer[at + 4]!;
    const end = at + 24 + answer.readUInt32BE(at + 8);
    const key = at + 24 + extrasLength;
    packets.push(
      `${answer[at + 1]!.toString(16)} ${answer.readUInt16BE(at + 6).toString(16)}` +
        ` ${answer.toString('hex', at + 24, key)} ${answer.toString('latin1', key, key + keyLength)}` +
        ` ${answer.toString('latin1', key + keyLength, Math.min(end, key + keyLength + 60))}` +
        ` opaque=${answer.readUInt32BE(at + 12).toString(16)} cas=${answer.readBigUInt64BE(at + 16)}`,
    );
    at = end;
  }
  if (at < answer.length) packets.push(`rest ${answer.toString('latin1', at, at + 60)}`);
  return packets;
}
