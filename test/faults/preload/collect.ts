/** Preloaded into a node: runs the garbage collector on request, and reports memory usage. */
import { channel } from "node:process"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"

setFlagsFromString("--expose-gc")
const collect: () => void = runInNewContext("gc")

process.on("message", () => {
  collect()
  const { external, heapUsed, rss } = process.memoryUsage()
  process.send?.({ heap: heapUsed, external, rss })
})
// The IPC channel must not keep the process alive.
channel?.unref()
