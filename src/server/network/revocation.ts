/** Decides whether an authenticated client must be disconnected. Pure. */
import type { ClientRef } from "#schema/ids.ts"
import { HashMap, Option } from "effect"
import type { Key, NetworkState } from "./NetworkState.ts"
import * as BucketMap from "./BucketMap.ts"

/**
 * The reason to close a client's connection, or undefined. `deleted`: the client's row is gone; it takes precedence, because a
 * deleted client needs no other key. `revoked`: its key was deleted, or replaced under the same id. `defect`: its row is missing
 * but its key is live, so the row exists and is unreadable; the client should retry, not stop.
 */
export const reasonToClose = (
  state: NetworkState,
  { key, ref }: { readonly ref: ClientRef; readonly key: Key }
): "deleted" | "revoked" | "defect" | undefined => {
  const exists = ref.type === "agent" ? BucketMap.has(state.agents, ref.id) : HashMap.has(state.gateways, ref.id)
  const current = HashMap.get(state.keys, key.id)
  const isLive = Option.isSome(current) && current.value.hash === key.hash
  if (exists) return isLive ? undefined : "revoked"
  return isLive ? "defect" : "deleted"
}
