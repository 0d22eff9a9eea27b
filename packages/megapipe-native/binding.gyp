{
  "targets": [
    {
      "target_name": "megapipe_native",
      "sources": [
        "csrc/addon.c",
        "csrc/memory.c",
        "csrc/uring.c",
        "csrc/device.c",
        "csrc/epoll.c",
        "csrc/socket.c",
        "csrc/process.c",
        "csrc/file.c",
        "csrc/loop.c"
      ],
      "defines": ["NAPI_VERSION=9", "_GNU_SOURCE"],
      "cflags": ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden", "-O2"],
      "cflags!": ["-fno-omit-frame-pointer"],
      "configurations": { "Release": { "cflags": ["-O2"] } }
    }
  ]
}
