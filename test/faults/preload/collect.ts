/** Loaded into a node before its own code: it collects its garbage when its parent asks, and answers with what is left. */
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
// Listening must not keep the process alive.
channel?.unref()
