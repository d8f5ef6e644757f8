/** Schedules when each client reconnects after this process has stopped. Pure. */
import type { ClientType } from "#schema/ids.ts"

/** 200 clients a second, a rate that another node accepts without delay. */
const millisPerClient = 5
const minWindowMillis = 2_000
const maxWindowMillis = 30_000

/** Milliseconds within which this number of clients reconnects. */
export const reconnectWindowMillis = (clients: number): number =>
  Math.min(maxWindowMillis, Math.max(minWindowMillis, clients * millisPerClient))

/**
 * Each client with its delay in milliseconds. All delays differ, and gateways come first, because agents need them. `jitter`
 * is a random number in [0, 1).
 */
export const scheduleReconnects = <Client extends { readonly type: ClientType }>(
  clients: ReadonlyArray<Client>,
  jitter: number
): ReadonlyArray<readonly [Client, number]> => {
  const window = reconnectWindowMillis(clients.length)
  const gatewaysFirst = [
    ...clients.filter(({ type }) => type === "gateway"),
    ...clients.filter(({ type }) => type === "agent")
  ]
  return gatewaysFirst.map((client, index) => [client, Math.round(window * (index + jitter) / clients.length)])
}
