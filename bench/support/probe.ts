/**
 * Loaded into both servers before their own code: tells the orchestrator what they use. It only listens on the IPC channel, so
 * it costs nothing between two calls.
 */
import { Session } from "node:inspector/promises"
import { writeFile } from "node:fs/promises"
import { serveCalls } from "./ipcCalls.ts"

export interface Memory {
  /** Resident set, in bytes, after a full collection. */
  readonly resident: number
  /** Heap and array buffers in use, in bytes. */
  readonly heap: number
}

const session = new Session()

const handlers = {
  /** CPU of the whole process so far, in milliseconds. */
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
// The channel alone must not keep a server alive that has been told to stop, nor may a server outlive the run.
process.channel?.unref()
process.on("disconnect", () => process.kill(process.pid, "SIGTERM"))
