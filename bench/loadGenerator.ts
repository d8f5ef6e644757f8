/** Process that runs groups of clients on command of the orchestrator and returns what they received. */
import { serveCalls } from "./support/ipcCalls.ts"
import {
  ClientGroup,
  type ConnectOptions,
  type ConnectResult,
  type DeliveryResult,
  type HeartbeatResult
} from "./support/ClientGroup.ts"

const groups = new Map<string, ClientGroup>()

const group = (name: string): ClientGroup => {
  const existing = groups.get(name)
  if (existing !== undefined) return existing
  const created = new ClientGroup()
  groups.set(name, created)
  return created
}

const handlers = {
  connect: ({ name, ...options }: ConnectOptions & { readonly name: string }): Promise<ConnectResult> =>
    group(name).connect(options),
  expectDeltas: (
    { after, name, deltasPerClient }: {
      readonly name: string
      readonly deltasPerClient: number
      readonly after: number
    }
  ): void => group(name).expectDeltas(deltasPerClient, after),
  waitForDeltas: (
    { name, since, timeoutMillis }: { readonly name: string; readonly since: number; readonly timeoutMillis: number }
  ): Promise<DeliveryResult> => group(name).waitForDeltas(since, timeoutMillis),
  sendHeartbeats: (
    { name, perSecond, seconds }: { readonly name: string; readonly perSecond: number; readonly seconds: number }
  ): Promise<HeartbeatResult> => group(name).sendHeartbeats(perSecond, seconds),
  /** Limits the read rate of every client in a group. */
  limitReadRate: ({ bytesPerSecond, name }: { readonly name: string; readonly bytesPerSecond: number }): void =>
    group(name).limitReadRate(bytesPerSecond),
  /** Turns acknowledgements of deltas on or off. Returns the number of acknowledgements so far. */
  setAcknowledging: ({ isWanted, name }: { readonly name: string; readonly isWanted: boolean }): number =>
    group(name).setAcknowledging(isWanted),
  /** Disconnects the clients of a group but keeps their positions for `resume`. */
  disconnect: (name: string): void => group(name).close(),
  close: (name: string): void => {
    groups.get(name)?.close()
    groups.delete(name)
  },
  /** CPU time of this process so far, in milliseconds. */
  cpu: (): number => {
    const { system, user } = process.cpuUsage()
    return (system + user) / 1_000
  }
}
export type LoadHandlers = typeof handlers

serveCalls(handlers)
process.on("disconnect", () => process.exit())
