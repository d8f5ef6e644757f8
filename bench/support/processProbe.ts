/**
 * Reports CPU and memory of a measured server to the orchestrator. Both servers preload this module. It only listens on the
 * IPC channel, so it costs nothing between two calls.
 */
import { Session } from "node:inspector/promises"
import { writeFile } from "node:fs/promises"
import { serveCalls } from "./ipcCalls.ts"

export interface Memory {
  /** Resident memory in bytes after a full garbage collection. */
  readonly resident: number
  /** Heap and array buffers in use, in bytes. */
  readonly heap: number
}

const session = new Session()

const handlers = {
  /** CPU time of the whole process so far, in milliseconds. */
  cpu: (): number => {
    const { system, user } = process.cpuUsage()
    return (system + user) / 1_000
  },
  memory: async (): Promise<Memory> => {
    for (let round = 0; round < 3; round += 1) {
      globalThis.gc?.()
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    const { arrayBuffers, heapUsed, rss } = process.memoryUsage()
    return { resident: rss, heap: heapUsed + arrayBuffers }
  },
  startProfile: async (): Promise<void> => {
    session.connect()
    await session.post("Profiler.enable")
    await session.post("Profiler.setSamplingInterval", { interval: 200 })
    await session.post("Profiler.start")
  },
  stopProfile: async (file: string): Promise<void> => {
    const { profile } = await session.post("Profiler.stop")
    session.disconnect()
    await writeFile(file, JSON.stringify(profile))
  }
}
export type ProbeHandlers = typeof handlers

serveCalls(handlers)
// The channel must not keep a stopping server alive, and a server must not outlive the run.
process.channel?.unref()
process.on("disconnect", () => process.kill(process.pid, "SIGTERM"))
