/** Whose WireGuard keys a client has from its next session on: those that it made itself, or those that Control made for it. */
import { generateWireguardKeyPair, isUsableWireguardKey } from "#crypto/wireguardKeys.ts"
import type { NetworkState } from "#network/NetworkState.ts"
import * as Table from "#network/BucketMap.ts"
import type { ClientRef } from "#schema/ids.ts"
import type { WireguardKeys } from "#store/PresenceStore.ts"
import { Effect, HashMap, Option, Schema } from "effect"

/** The public key that a client brought cannot be its own. */
export class WireguardKeyRejected
  extends Schema.TaggedError<WireguardKeyRejected>()("WireguardKeyRejected", { reason: Schema.String })
{}

/**
 * What the row must get; undefined when it is right already. A client that brings its own public key has its private key to
 * itself; one that brings none, and has none stored, gets a pair. With another client's key it would take that one's place
 * among the peers, so it is refused; two that bring the same new key in the same moment share a private key anyway.
 */
export const keysToStore = (
  state: NetworkState,
  ref: ClientRef,
  brought: string | undefined
): Effect.Effect<WireguardKeys | undefined, WireguardKeyRejected> => {
  const row = ref.type === "agent"
    ? Option.getOrUndefined(Table.get(state.agents, ref.id))
    : Option.getOrUndefined(HashMap.get(state.gateways, ref.id))
  if (brought === undefined) {
    return Effect.succeed(row?.wireguardPrivateKey === null ? generateWireguardKeyPair() : undefined)
  }
  if (row?.wireguardPublicKey === brought) {
    return Effect.succeed(row.wireguardPrivateKey === null ? undefined : { publicKey: brought, privateKey: null })
  }
  if (!isUsableWireguardKey(brought)) return rejected("wireguardPublicKey is no key that anybody could use")
  return isAnybodys(state, brought)
    ? rejected("wireguardPublicKey is another client's")
    : Effect.succeed({ publicKey: brought, privateKey: null })
}

function isAnybodys({ agents, gateways }: NetworkState, publicKey: string): boolean {
  const isIts = (row: { readonly wireguardPublicKey: string }) => row.wireguardPublicKey === publicKey
  return agents.buckets.some((bucket) => bucket.values().some(isIts)) || HashMap.some(gateways, isIts)
}

const rejected = (reason: string) => Effect.fail(new WireguardKeyRejected({ reason }))
