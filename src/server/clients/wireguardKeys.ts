/** Decides which WireGuard keys a client has: its own keys or a generated pair. */
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
 * rejected, because WireGuard would mistake one client for the other. A key that another client takes at the same moment is
 * found by the claim.
 */
export const wireguardKeysToStore = (
  state: NetworkState,
  ref: ClientRef,
  publicKey: string | undefined
): Effect.Effect<WireguardKeys | undefined, WireguardKeyRejected> => {
  const row = ref.type === "agent"
    ? Option.getOrUndefined(BucketMap.get(state.agents, ref.id))
    : Option.getOrUndefined(HashMap.get(state.gateways, ref.id))
  if (publicKey === undefined) {
    return Effect.succeed(row?.wireguardPrivateKey === null ? generateWireguardKeyPair() : undefined)
  }
  if (row?.wireguardPublicKey === publicKey) {
    return Effect.succeed(row.wireguardPrivateKey === null ? undefined : { publicKey, privateKey: null })
  }
  if (!isUsableWireguardKey(publicKey)) return rejected("wireguardPublicKey is no usable WireGuard public key")
  return isInUse(state, publicKey)
    ? Effect.fail(wireguardKeyTaken)
    : Effect.succeed({ publicKey, privateKey: null })
}

function isInUse({ agents, gateways }: NetworkState, publicKey: string): boolean {
  const hasKey = (row: { readonly wireguardPublicKey: string }) => row.wireguardPublicKey === publicKey
  return agents.buckets.some((bucket) => bucket.values().some(hasKey)) || HashMap.some(gateways, hasKey)
}

export const wireguardKeyTaken = new WireguardKeyRejected({ reason: "wireguardPublicKey belongs to another client" })

const rejected = (reason: string) => Effect.fail(new WireguardKeyRejected({ reason }))
