/** Whether a client that has authenticated may stay. Pure. */
import type { ClientRef } from "#schema/ids.ts"
import { HashMap, Option } from "effect"
import type { Key, NetworkState } from "./NetworkState.ts"
import * as Table from "./BucketMap.ts"

/**
 * Why a client must go, if it must. `deleted`; or its key was `revoked`, or replaced under the same id. Deleted weighs more: a
 * client that is gone need not look for another key. `defect`: its key is live, which it could not be without its row, so the
 * row is there and cannot be read; the client is to come again, not to stop.
 */
export const reasonToClose = (
  state: NetworkState,
  { key, ref }: { readonly ref: ClientRef; readonly key: Key }
): "deleted" | "revoked" | "defect" | undefined => {
  const exists = ref.type === "agent" ? Table.has(state.agents, ref.id) : HashMap.has(state.gateways, ref.id)
  const current = HashMap.get(state.keys, key.id)
  const isLive = Option.isSome(current) && current.value.hash === key.hash
  if (exists) return isLive ? undefined : "revoked"
  return isLive ? "defect" : "deleted"
}
