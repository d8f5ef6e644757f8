import { encodeConfig } from "#views/encodeConfig.ts"
import * as History from "#network/History.ts"
import { apply, empty, load, type NetworkState } from "#network/NetworkState.ts"
import { resume } from "#views/resume.ts"
import { encodePart, receiverIn } from "#views/messages.ts"
import { view } from "#views/view.ts"
import { type ClientRef, type GatewayId, Revision, Timeline } from "#schema/ids.ts"
import { agentIds, changesOf, Commands, gatewayIds } from "#support/histories.ts"
import { fromConfig, Viewer } from "#support/Viewer.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"

const timeline = Timeline.make("t")
const start = empty(timeline, Revision.make(0))
const everyone: ReadonlyArray<ClientRef> = [
  ...agentIds.map((id) => ({ type: "agent" as const, id })),
  ...gatewayIds.map((id) => ({ type: "gateway" as const, id }))
]
const Split = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 60 }))

const viewerAt = (state: NetworkState, client: ClientRef): Viewer => {
  const viewer = new Viewer()
  const config = encodeConfig(state, client, "control.v1")
  if (config !== undefined) viewer.take(JSON.parse(config.own + config.shared.map(({ text }) => text).join("")))
  return viewer
}

const resumeAt = (state: NetworkState, client: ClientRef, from: { timeline: Timeline; revision: Revision }) => {
  const receiver = receiverIn(state, client, "control.v1")
  return receiver === undefined ? undefined : resume(state, receiver, from)
}

describe("resuming", () => {
  it.effect.prop("a client that comes back gets exactly what it missed, each row once and in order", {
    commands: Commands,
    split: Split
  }, ({ commands, split }) =>
    Effect.sync(() => {
      const changes = changesOf(commands)
      const then = changes.slice(0, split).reduce(apply, start)
      const now = changes.slice(split).reduce(apply, then)
      for (const client of everyone) {
        const viewer = viewerAt(then, client)
        const truth = view(now, client, "control.v1")
        if (viewer.view === undefined || truth === undefined) continue
        const resumption = resumeAt(now, client, { timeline, revision: then.revision })
        if (resumption?._tag !== "Resumed") continue
        viewer.take({ type: "auth_success", data: { resumed: true } })
        const rows = new Set<string>()
        for (const { part, revision } of resumption.missed) {
          const row = `${part.type.split("_")[0]} ${JSON.stringify(part.data).slice(0, 40)}`
          assert.isFalse(rows.has(row), "a row twice")
          rows.add(row)
          viewer.take(JSON.parse(encodePart["control.v1"](part, revision, Revision.make(viewer.revision))))
        }
        assert.deepStrictEqual(viewer.view, fromConfig(truth), `${client.type} ${client.id} from ${then.revision}`)
      }
    }), { arbitrary: { runs: 400, size: 60 } })

  it.effect.prop("a client that is cut off again in the midst of that, and comes back, has missed nothing", {
    commands: Commands,
    split: Split,
    cut: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 10 }))
  }, ({ commands, cut, split }) =>
    Effect.sync(() => {
      const changes = changesOf(commands)
      const then = changes.slice(0, split).reduce(apply, start)
      const now = changes.slice(split).reduce(apply, then)
      for (const client of everyone) {
        const viewer = viewerAt(then, client)
        const truth = view(now, client, "control.v1")
        if (viewer.view === undefined || truth === undefined) continue
        for (const most of [cut, Infinity]) {
          const from = { timeline, revision: Revision.make(viewer.revision) }
          const resumption = resumeAt(now, client, from)
          viewer.take({ type: "auth_success", data: { resumed: true } })
          if (resumption?._tag === "Resumed") {
            for (const { part, revision } of resumption.missed.slice(0, most)) {
              viewer.take(JSON.parse(encodePart["control.v1"](part, revision, Revision.make(viewer.revision))))
            }
          } else viewer.view = fromConfig(truth)
        }
        assert.deepStrictEqual(viewer.view, fromConfig(truth), `${client.type} ${client.id} from ${then.revision}`)
      }
    }), { arbitrary: { runs: 1_000, size: 60 } })

  it("a tunnel that left, and was changed by its new owner, is told to have left where it did", () => {
    const put = (which: number, variant: number) => ({ what: "tunnel" as const, which, variant })
    const agents = [0, 1].map((which) => ({ what: "agent" as const, which, variant: 0 }))
    // Of agents 0 and 1 it is the variant that decides whose a tunnel is: 0 and 3 are agent 0's, 1 and 4 agent 1's.
    const changes = changesOf([...agents, put(0, 0), put(1, 0), put(0, 1), put(1, 3), put(0, 4)])
    const now = changes.reduce(apply, start)
    const resumption = resumeAt(now, everyone[0] as ClientRef, { timeline, revision: Revision.make(4) })
    assert.deepStrictEqual(
      resumption?._tag === "Resumed" && resumption.missed.map(({ part, revision }) => [part.type, Number(revision)]),
      [["tunnel_delete", 5], ["tunnel_update", 6]]
    )
  })

  it.effect.prop("an agent is told of no tunnel that was never its own", { commands: Commands, split: Split }, (
    { commands, split }
  ) =>
    Effect.sync(() => {
      const changes = changesOf(commands)
      const then = changes.slice(0, split).reduce(apply, start)
      const now = changes.slice(split).reduce(apply, then)
      for (const client of everyone) {
        if (client.type !== "agent") continue
        const resumption = resumeAt(now, client, { timeline, revision: then.revision })
        if (resumption?._tag !== "Resumed") continue
        const own = new Set(
          changes.flatMap((change) =>
            change._tag === "TunnelPut" && change.tunnel.agentId === client.id ? [change.tunnel.id as string] : []
          )
        )
        for (const { part } of resumption.missed) {
          if (part.type.startsWith("tunnel_")) assert.isTrue(own.has((part.data as { id: string }).id))
        }
      }
    }), { arbitrary: { runs: 200, size: 60 } })

  it.effect.prop(
    "what is read from the log tells the same as what was followed",
    { commands: Commands, split: Split },
    (
      { commands, split }
    ) =>
      Effect.sync(() => {
        const changes = changesOf(commands)
        const followed = changes.reduce(apply, start)
        const touches = followed.history.chunks.flat()
        const read = load(timeline, followed.revision, changes, History.of(Revision.make(0), touches))
        for (const client of everyone) {
          const from = { timeline, revision: Revision.make(Math.min(split, changes.length)) }
          assert.deepStrictEqual(resumeAt(read, client, from), resumeAt(followed, client, from))
        }
      }),
    { arbitrary: { runs: 100, size: 60 } }
  )

  it("another timeline, the future, a forgotten past and an own change each end in a config, and say why", () => {
    const changes = changesOf([
      { what: "agent", which: 0, variant: 0 },
      { what: "gateway", which: 0, variant: 1 },
      { what: "agent", which: 0, variant: 1 }
    ])
    const state = changes.reduce(apply, start)
    const agent = everyone[0] as ClientRef
    const why = (from: { timeline: Timeline; revision: Revision }, at = state) => {
      const resumption = resumeAt(at, agent, from)
      return resumption?._tag === "NotResumed" ? resumption.why : resumption?._tag
    }
    assert.strictEqual(why({ timeline: Timeline.make("other"), revision: Revision.make(3) }), "timeline")
    assert.strictEqual(why({ timeline, revision: Revision.make(4) }), "ahead")
    assert.strictEqual(why({ timeline, revision: Revision.make(2) }), "own")
    assert.strictEqual(why({ timeline, revision: Revision.make(3) }), "Resumed")
    const trimmed = { ...state, history: History.none(Revision.make(3)) }
    assert.strictEqual(why({ timeline, revision: Revision.make(2) }, trimmed), "compacted")
    assert.strictEqual(why({ timeline, revision: Revision.make(3) }, trimmed), "Resumed")
  })

  it("the history is bounded, and says from where on it is whole", () => {
    const gateway = { type: "gateway" as const, id: gatewayIds[0] as GatewayId }
    let history = History.none(Revision.make(0))
    const total = History.capacity + 1_000
    for (let revision = 1; revision <= total; revision++) {
      history = History.append(history, {
        revision: Revision.make(revision),
        entity: "certificate",
        id: `c${revision}`,
        agents: [],
        own: false,
        renumbered: false
      })
    }
    assert.isUndefined(History.since(history, Revision.make(history.from - 1), gateway))
    const kept = History.since(history, history.from, gateway) ?? []
    assert.isAtLeast(kept.length, History.capacity)
    assert.strictEqual(kept[0]?.revision, history.from + 1)
    assert.strictEqual(kept.length, total - history.from)
  })
})
