/** When each client comes back after this process has stopped. Pure. */
import type { ClientType } from "#schema/ids.ts"

/** What the process that is there next takes in without pain: 200 clients a second. */
const millisEach = 5
const shortestMillis = 2_000
const longestMillis = 30_000

/** Within how many milliseconds so many clients come back. */
export const windowMillis = (clients: number): number =>
  Math.min(longestMillis, Math.max(shortestMillis, clients * millisEach))

/** Each client with its delay in milliseconds: all different, gateways first, since agents need them. `shift` is a chance in [0, 1). */
export const spread = <Client extends { readonly type: ClientType }>(
  clients: ReadonlyArray<Client>,
  shift: number
): ReadonlyArray<readonly [Client, number]> => {
  const window = windowMillis(clients.length)
  const gatewaysFirst = [
    ...clients.filter(({ type }) => type === "gateway"),
    ...clients.filter(({ type }) => type === "agent")
  ]
  return gatewaysFirst.map((client, index) => [client, Math.round(window * (index + shift) / clients.length)])
}
