/** Random requests for sessions and node leases. */
import { Revision } from "#schema/ids.ts"
import { NodeStore } from "#store/NodeStore.ts"
import { PresenceStore } from "#store/PresenceStore.ts"
import { Duration, Effect, Redacted } from "effect"
import type { Random } from "./Random.ts"
import { allClients, keys, pick, sessions, type StoreRequest } from "./StoreRequest.ts"

const nackTime = "2026-01-01T00:00:00.000Z"

const drawSession = (random: Random) => ({ ...pick(random, allClients), session: pick(random, sessions) })

export const claim = (random: Random, fresh: number): StoreRequest => {
  const plainClaim = () => ({
    ...drawSession(random),
    address: "192.0.2.1",
    level: pick(random, ["plain", "control.v1"] as const),
    publicIp: null,
    keyId: pick(random, keys),
    version: random.chance(0.5) ? undefined : "agent/1"
  })
  // Only one claim changes its row, because PostgreSQL does not define the order of several changes.
  const changing = {
    ...plainClaim(),
    publicIp: random.chance(0.5) ? null : `203.0.113.${random.between(1, 3)}`,
    ...pick(random, [
      {},
      { wireguard: { publicKey: `own ${fresh % 5}`, privateKey: null } },
      { wireguard: { publicKey: `made ${fresh}`, privateKey: Redacted.make(`made ${fresh}`) } }
    ])
  }
  const claims = [changing, ...Array.from({ length: random.between(0, 2) }, plainClaim)]
  const node = pick(random, ["node", "node", "other"])
  return { name: "claim", effect: Effect.flatMap(PresenceStore, (store) => store.claim(node, claims)) }
}

const drawNack = (random: Random) =>
  random.chance(0.8)
    ? undefined
    : { revision: Revision.make(2), code: "c", message: "m", at: nackTime }

export const touch = (random: Random): StoreRequest => {
  const seen = pick(random, [allClients.slice(0, 2), allClients.slice(2, 4)]).map((ref) => ({
    ...ref,
    session: pick(random, sessions),
    ageMillis: pick(random, [0, 100_000]),
    sent: Revision.make(random.between(0, 5)),
    applied: random.chance(0.5) ? undefined : Revision.make(3),
    nack: drawNack(random)
  }))
  return { name: "touch", effect: Effect.flatMap(PresenceStore, (store) => store.touch("node", seen)) }
}

export const release = (random: Random): StoreRequest => {
  const held = [{ ...drawSession(random), nack: drawNack(random) }]
  return { name: "release", effect: Effect.flatMap(PresenceStore, (store) => store.release(held)) }
}

export const sweep = (): StoreRequest => ({
  name: "sweep",
  effect: Effect.flatMap(PresenceStore, (store) => store.expireSessions(Duration.seconds(50)))
})

export const renew = (random: Random): StoreRequest => {
  const node = { id: pick(random, ["node", "other"]), name: "n", version: "1", clients: 0, revision: 0 }
  const renewed = Effect.flatMap(NodeStore, (store) => store.renew(node, Duration.hours(1)))
  return { name: "renew", effect: Effect.asVoid(renewed) }
}

export const collect = (random: Random): StoreRequest => {
  const node = pick(random, ["node", "other"])
  return { name: "collect", effect: Effect.flatMap(NodeStore, (store) => store.collectTakeovers(node)) }
}
