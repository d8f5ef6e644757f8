/** Properties of the network for any history: views, deltas, encoded configs and indexes agree. */
import { encodeConfig, minConfigBytes } from "#views/encodeConfig.ts"
import { apply, empty, type NetworkState } from "#network/NetworkState.ts"
import { load } from "#network/RowLoader.ts"
import type { Delta } from "#views/delta.ts"
import { audiencesOf, deltasOf } from "#views/changeDeltas.ts"
import * as BucketMap from "#network/BucketMap.ts"
import { encodeViewMessage, messageFor, receiverIn } from "#views/deltaMessages.ts"
import { view } from "#views/view.ts"
import { type ClientRef, Revision, Timeline } from "#schema/ids.ts"
import type { Level } from "#schema/protocol.ts"
import { agentIds, Commands, gatewayIds, toChanges } from "#support/changeHistories.ts"
import { viewFromConfig, ViewReplica } from "#support/ViewReplica.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, HashMap } from "effect"

const start = empty(Timeline.make("t"), Revision.make(0))
const allClients: ReadonlyArray<ClientRef> = [
  ...agentIds.map((id) => ({ type: "agent" as const, id })),
  ...gatewayIds.map((id) => ({ type: "gateway" as const, id }))
]
const levels: ReadonlyArray<Level> = ["plain", "control.v1"]

const configFor = (state: NetworkState, client: ClientRef, level: Level = "plain") => {
  const config = encodeConfig(state, client, level)
  return config === undefined ? undefined : JSON.parse(config.own + config.shared.map(({ text }) => text).join(""))
}

const none = { agent: {}, gateways: [], tunnels: [] }

/** A client receives the deltas of the audiences to which it belonged before the change. */
const receives = (before: NetworkState, client: ClientRef, delta: Delta): boolean =>
  audiencesOf(before, client).includes(delta.audience)

/** Applies a delta to a viewer that has a view. */
const applyDelta = (
  viewer: ViewReplica,
  before: NetworkState,
  state: NetworkState,
  client: ClientRef,
  level: Level,
  delta: Delta
) => {
  const receiver = receiverIn(state, client, level)
  if (receiver === undefined || !receives(before, client, delta)) return
  const rendering = messageFor(delta.content, receiver)
  if (rendering._tag === "Resync") viewer.apply(configFor(state, client, level))
  if (rendering._tag === "Message") {
    viewer.apply(
      JSON.parse(encodeViewMessage[level](rendering.message, delta.revision, Revision.make(viewer.revision)))
    )
  }
}

describe("the network", () => {
  for (const level of levels) {
    it.effect.prop(`a config at R and the deltas up to R' make the view at R', for any history and client (${level})`, {
      commands: Commands
    }, ({ commands }) =>
      Effect.sync(() => {
        let state = start
        const viewers = new Map(allClients.map((client) => [client, new ViewReplica()]))
        for (const change of toChanges(commands)) {
          const before = state
          state = apply(state, change)
          for (const delta of deltasOf(before, state, change)) {
            for (const [client, viewer] of viewers) {
              if (viewer.view !== undefined) applyDelta(viewer, before, state, client, level, delta)
            }
          }
          for (const [client, viewer] of viewers) {
            const expected = view(state, client, level)
            // A client that does not exist is not connected; when it is created, it starts with a config.
            if (expected === undefined)
              viewer.view = undefined
            else if (viewer.view === undefined) viewer.apply(configFor(state, client, level))
            else assert.deepStrictEqual(
                viewer.view,
                viewFromConfig(expected),
                `${client.type} ${client.id} at ${change.revision}`
              )
          }
        }
      }), { arbitrary: { runs: 400, size: 60 } })

    it.effect.prop(
      `the encoded config is the view, even with cached rows (${level})`,
      { commands: Commands },
      ({ commands }) =>
        Effect.sync(() => {
          let state = start
          for (const change of toChanges(commands)) {
            state = apply(state, change)
            for (const client of allClients) {
              const config = configFor(state, client, level)
              assert.deepEqual(config?.data, view(state, client, level))
              if (config !== undefined && level !== "plain") {
                assert.strictEqual(config.revision, change.revision)
                assert.strictEqual(config.timeline, "t")
              }
              // The database never has a tunnel without its agent.
              const isConsistent = BucketMap.values(state.tunnels).every(({ agentId }) =>
                BucketMap.has(state.agents, agentId)
              )
              if (config !== undefined && isConsistent && level !== "plain")
                assert.isAtMost(minConfigBytes(state, client), JSON.stringify(config.data).length)
            }
          }
        }),
      { arbitrary: { runs: 100, size: 60 } }
    )
  }

  it.effect.prop(
    "applying a change twice does not change the state",
    { commands: Commands },
    ({ commands }) =>
      Effect.sync(() => {
        const changes = toChanges(commands)
        const state = changes.reduce(apply, start)
        for (const change of changes) assert.strictEqual(apply(state, change), state)
      }),
    { arbitrary: { runs: 100, size: 60 } }
  )

  it.effect.prop(
    "tunnelsByAgent contains exactly the tunnels",
    { commands: Commands },
    ({ commands }) =>
      Effect.sync(() => {
        const state = toChanges(commands).reduce(apply, start)
        const indexed = HashMap.toValues(state.tunnelsByAgent).flatMap((tunnels) => HashMap.toValues(tunnels))
        assert.sameMembers(indexed, [...BucketMap.values(state.tunnels)])
      }),
    { arbitrary: { runs: 100, size: 60 } }
  )

  it.effect.prop(
    "loading all rows makes the same views as applying their changes",
    { commands: Commands },
    ({ commands }) =>
      Effect.sync(() => {
        const changes = toChanges(commands)
        const followed = changes.reduce(apply, start)
        const rows = load(followed.timeline, followed.revision, changes)
        for (const client of allClients) {
          const [one, other] = [view(followed, client), view(rows, client)]
          assert.deepEqual(one && viewFromConfig(one), other && viewFromConfig(other))
        }
      }),
    { arbitrary: { runs: 100, size: 60 } }
  )

  it.effect.prop(
    "no frame to a client contains the private key of another client",
    { commands: Commands },
    ({ commands }) =>
      Effect.sync(() => {
        let state = start
        for (const change of toChanges(commands)) {
          const before = state
          state = apply(state, change)
          for (const client of allClients) {
            for (const level of levels) {
              const receiver = receiverIn(state, client, level)
              const renderings = receiver === undefined
                ? []
                : deltasOf(before, state, change).filter((delta) => receives(before, client, delta)).map((
                  { content: delta }
                ) => messageFor(delta, receiver))
              const seen = JSON.stringify([configFor(state, client, level), renderings])
              const keys = [...seen.matchAll(/wireguardPrivateKey/gu)].length
              assert.isAtMost(keys, view(state, client) === undefined ? 0 : 1)
              const mayReceive = [before, state].flatMap((at) =>
                Object.keys(viewFromConfig(view(at, client) ?? none).certificates)
              )
              const named = [...seen.matchAll(/certificate key of (\S+) \d/gu)].map(([, domain = ""]) => domain)
              assert.includeMembers(mayReceive, [...new Set(named)])
              if (client.type === "agent") assert.notInclude(seen, "\"privateKey\"")
            }
          }
        }
      }),
    { arbitrary: { runs: 100, size: 60 } }
  )
})
