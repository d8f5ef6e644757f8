import { encodeConfig, leastConfigBytes } from "#views/encodeConfig.ts"
import { apply, empty, load, type NetworkState } from "#network/NetworkState.ts"
import type { Step } from "#views/delta.ts"
import { audiencesOf, steps } from "#views/steps.ts"
import * as Table from "#network/BucketMap.ts"
import { encodePart, messageFor, receiverIn } from "#views/messages.ts"
import { view } from "#views/view.ts"
import { type ClientRef, Revision, Timeline } from "#schema/ids.ts"
import type { Level } from "#schema/protocol.ts"
import { agentIds, changesOf, Commands, gatewayIds } from "#support/histories.ts"
import { fromConfig, Viewer } from "#support/Viewer.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, HashMap } from "effect"

const start = empty(Timeline.make("t"), Revision.make(0))
const everyone: ReadonlyArray<ClientRef> = [
  ...agentIds.map((id) => ({ type: "agent" as const, id })),
  ...gatewayIds.map((id) => ({ type: "gateway" as const, id }))
]
const levels: ReadonlyArray<Level> = ["plain", "control.v1"]

const configFor = (state: NetworkState, client: ClientRef, level: Level = "plain") => {
  const config = encodeConfig(state, client, level)
  return config === undefined ? undefined : JSON.parse(config.own + config.shared.map(({ text }) => text).join(""))
}

const none = { agent: {}, gateways: [], tunnels: [] }

/** A client follows what it followed before the change. */
const concerns = (before: NetworkState, client: ClientRef, step: Step): boolean =>
  audiencesOf(before, client).includes(step.audience)

/** What a viewer that has a view is sent for a step. */
const follow = (
  viewer: Viewer,
  before: NetworkState,
  state: NetworkState,
  client: ClientRef,
  level: Level,
  step: Step
) => {
  const receiver = receiverIn(state, client, level)
  if (receiver === undefined || !concerns(before, client, step)) return
  const telling = messageFor(step.delta, receiver)
  if (telling._tag === "Whole") viewer.take(configFor(state, client, level))
  if (telling._tag === "Part") {
    viewer.take(JSON.parse(encodePart[level](telling.part, step.revision, Revision.make(viewer.revision))))
  }
}

describe("the network", () => {
  for (const level of levels) {
    it.effect.prop(`a config at R and the steps up to R' give the view at R', for any history and client (${level})`, {
      commands: Commands
    }, ({ commands }) =>
      Effect.sync(() => {
        let state = start
        const viewers = new Map(everyone.map((client) => [client, new Viewer()]))
        for (const change of changesOf(commands)) {
          const before = state
          state = apply(state, change)
          for (const step of steps(before, state, change)) {
            for (const [client, viewer] of viewers) {
              if (viewer.view !== undefined) follow(viewer, before, state, client, level, step)
            }
          }
          for (const [client, viewer] of viewers) {
            const truth = view(state, client, level)
            // A client that the network does not know is not connected: it starts with a config when it comes.
            if (truth === undefined)
              viewer.view = undefined
            else if (viewer.view === undefined) viewer.take(configFor(state, client, level))
            else assert.deepStrictEqual(
                viewer.view,
                fromConfig(truth),
                `${client.type} ${client.id} at ${change.revision}`
              )
          }
        }
      }), { arbitrary: { runs: 400, size: 60 } })

    it.effect.prop(
      `the encoded config is the view, also when a row was encoded before (${level})`,
      { commands: Commands },
      ({ commands }) =>
        Effect.sync(() => {
          let state = start
          for (const change of changesOf(commands)) {
            state = apply(state, change)
            for (const client of everyone) {
              const config = configFor(state, client, level)
              assert.deepEqual(config?.data, view(state, client, level))
              if (config !== undefined && level !== "plain") {
                assert.strictEqual(config.revision, change.revision)
                assert.strictEqual(config.timeline, "t")
              }
              // The database keeps no tunnel without its agent.
              const isWhole = Table.values(state.tunnels).every(({ agentId }) => Table.has(state.agents, agentId))
              if (config !== undefined && isWhole)
                assert.isAtMost(leastConfigBytes(state, client), JSON.stringify(config.data).length)
            }
          }
        }),
      { arbitrary: { runs: 100, size: 60 } }
    )
  }

  it.effect.prop(
    "a change seen before leaves the state untouched",
    { commands: Commands },
    ({ commands }) =>
      Effect.sync(() => {
        const changes = changesOf(commands)
        const state = changes.reduce(apply, start)
        for (const change of changes) assert.strictEqual(apply(state, change), state)
      }),
    { arbitrary: { runs: 100, size: 60 } }
  )

  it.effect.prop(
    "the index of tunnels by agent holds the same tunnels",
    { commands: Commands },
    ({ commands }) =>
      Effect.sync(() => {
        const state = changesOf(commands).reduce(apply, start)
        const indexed = HashMap.toValues(state.tunnelsOf).flatMap((tunnels) => HashMap.toValues(tunnels))
        assert.sameMembers(indexed, [...Table.values(state.tunnels)])
      }),
    { arbitrary: { runs: 100, size: 60 } }
  )

  it.effect.prop(
    "reading all rows at once gives the state that following their changes gives",
    { commands: Commands },
    ({ commands }) =>
      Effect.sync(() => {
        const changes = changesOf(commands)
        const followed = changes.reduce(apply, start)
        const rows = load(followed.timeline, followed.revision, changes)
        for (const client of everyone) {
          const [one, other] = [view(followed, client), view(rows, client)]
          assert.deepEqual(one && fromConfig(one), other && fromConfig(other))
        }
      }),
    { arbitrary: { runs: 100, size: 60 } }
  )

  it.effect.prop(
    "no frame to a client holds the private key of another",
    { commands: Commands },
    ({ commands }) =>
      Effect.sync(() => {
        let state = start
        for (const change of changesOf(commands)) {
          const before = state
          state = apply(state, change)
          for (const client of everyone) {
            for (const level of levels) {
              const receiver = receiverIn(state, client, level)
              const told = receiver === undefined
                ? []
                : steps(before, state, change).filter((step) => concerns(before, client, step)).map(({ delta }) =>
                  messageFor(delta, receiver)
                )
              const seen = JSON.stringify([configFor(state, client, level), told])
              const keys = [...seen.matchAll(/wireguardPrivateKey/gu)].length
              assert.isAtMost(keys, view(state, client) === undefined ? 0 : 1)
              const mayKnow = [before, state].flatMap((at) =>
                Object.keys(fromConfig(view(at, client) ?? none).certificates)
              )
              const named = [...seen.matchAll(/certificate key of (\S+) \d/gu)].map(([, domain = ""]) => domain)
              assert.includeMembers(mayKnow, [...new Set(named)])
              if (client.type === "agent") assert.notInclude(seen, "\"privateKey\"")
            }
          }
        }
      }),
    { arbitrary: { runs: 100, size: 60 } }
  )
})
