/** Whose WireGuard keys a client has from its next session on: those that it made itself, or those that Control made for it. */
import { generateWireguardKeyPair } from "#crypto/wireguardKeys.ts"
import type { NetworkState } from "#network/NetworkState.ts"
import * as Table from "#network/Table.ts"
import type { ClientRef } from "#schema/ids.ts"
import type { WireguardKeys } from "#store/PresenceStore.ts"
import { HashMap, Option } from "effect"

/**
 * What the row must get; undefined when it is right already. A client that brings its own public key has its private key to
 * itself; one that brings none, and has none stored, gets a pair.
 */
export const keysToStore = (
  state: NetworkState,
  ref: ClientRef,
  brought: string | undefined
): WireguardKeys | undefined => {
  const row = ref.type === "agent"
    ? Option.getOrUndefined(Table.get(state.agents, ref.id))
    : Option.getOrUndefined(HashMap.get(state.gateways, ref.id))
  if (brought === undefined) return row?.wireguardPrivateKey === null ? generateWireguardKeyPair() : undefined
  const isStored = row?.wireguardPublicKey === brought && row.wireguardPrivateKey === null
  return isStored ? undefined : { publicKey: brought, privateKey: null }
}
