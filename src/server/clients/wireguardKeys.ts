/** Decides which WireGuard keys a client has: keys of its own, or a generated pair. */
import { generateWireguardKeyPair, isUsableWireguardKey } from "#crypto/wireguardKeys.ts"
import type { NetworkState } from "#network/NetworkState.ts"
import * as BucketMap from "#network/BucketMap.ts"
import type { ClientRef } from "#schema/ids.ts"
import type { WireguardKeys } from "#store/presenceTypes.ts"
import { Effect, HashMap, Option, Schema } from "effect"

/** The public key that a client sent is unusable or belongs to another client. */
export class WireguardKeyRejected
  extends Schema.TaggedError<WireguardKeyRejected>()("WireguardKeyRejected", { reason: Schema.String })
{}

/**
 * The keys to store for a client, or undefined if its row needs no change. A client that sends a public key keeps its private
 * key to itself. A client that sends none, and has no private key stored, gets a generated pair. The key of another client is
 * rejected, because WireGuard would take one client for the other. Two clients that send the same new key at the same moment
 * share a private key anyway.
 */
export const wireguardKeysToStore = (
  state: NetworkState,
  ref: ClientRef,
  brought: string | undefined
): Effect.Effect<WireguardKeys | undefined, WireguardKeyRejected> => {
  const row = ref.type === "agent"
    ? Option.getOrUndefined(BucketMap.get(state.agents, ref.id))
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
