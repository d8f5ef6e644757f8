/** Resuming: a client that reconnects gets exactly the changes it missed, or a config. */
import { encodeConfig } from "#views/encodeConfig.ts"
import * as History from "#network/History.ts"
import { apply, empty, type NetworkState } from "#network/NetworkState.ts"
import { load } from "#network/RowLoader.ts"
import { resume } from "#views/resume.ts"
import { encodeViewMessage, receiverIn } from "#views/deltaMessages.ts"
import { view } from "#views/view.ts"
import { type ClientRef, type GatewayId, Revision, Timeline } from "#schema/ids.ts"
import { agentIds, Commands, gatewayIds, toChanges } from "#support/changeHistories.ts"
import { viewFromConfig, ViewReplica } from "#support/ViewReplica.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"

const timeline = Timeline.make("t")
const start = empty(timeline, Revision.make(0))
const allClients: ReadonlyArray<ClientRef> = [
  ...agentIds.map((id) => ({ type: "agent" as const, id })),
  ...gatewayIds.map((id) => ({ type: "gateway" as const, id }))
]
const Split = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 60 }))

const viewerAt = (state: NetworkState, client: ClientRef): ViewReplica => {
  const viewer = new ViewReplica()
  const config = encodeConfig(state, client, "control.v1")
  if (config !== undefined) viewer.apply(JSON.parse(config.own + config.shared.map(({ text }) => text).join("")))
  return viewer
}

const resumeAt = (state: NetworkState, client: ClientRef, from: { timeline: Timeline; revision: Revision }) => {
  const receiver = receiverIn(state, client, "control.v1")
  return receiver === undefined ? undefined : resume(state, receiver, from)
}

describe("resume", () => {
  it.effect.prop("a resuming client gets exactly the rows that it missed, each once and in order of revision", {
    commands: Commands,
    split: Split
  }, ({ commands, split }) =>
    Effect.sync(() => {
      const changes = toChanges(commands)
      const then = changes.slice(0, split).reduce(apply, start)
      const now = changes.slice(split).reduce(apply, then)
      for (const client of allClients) {
        const viewer = viewerAt(then, client)
        const expected = view(now, client, "control.v1")
        if (viewer.view === undefined || expected === undefined) continue
        const resumption = resumeAt(now, client, { timeline, revision: then.revision })
        if (resumption?._tag !== "Resumed") continue
        viewer.apply({ type: "auth_success", data: { resumed: true } })
        const rows = new Set<string>()
        for (const { message, revision } of resumption.messages) {
          const row = `${message.type.split("_")[0]} ${JSON.stringify(message.data).slice(0, 40)}`
          assert.isFalse(rows.has(row), "the same row twice")
          rows.add(row)
          viewer.apply(JSON.parse(encodeViewMessage["control.v1"](message, revision, Revision.make(viewer.revision))))
        }
        assert.deepStrictEqual(
          viewer.view,
          viewFromConfig(expected),
          `${client.type} ${client.id} from ${then.revision}`
        )
      }
    }), { arbitrary: { runs: 400, size: 60 } })

  it.effect.prop("a client that disconnects during a resume and resumes again has missed nothing", {
    commands: Commands,
    split: Split,
    cut: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 10 }))
  }, ({ commands, cut, split }) =>
    Effect.sync(() => {
      const changes = toChanges(commands)
      const then = changes.slice(0, split).reduce(apply, start)
      const now = changes.slice(split).reduce(apply, then)
      for (const client of allClients) {
        const viewer = viewerAt(then, client)
        const expected = view(now, client, "control.v1")
        if (viewer.view === undefined || expected === undefined) continue
        for (const received of [cut, Infinity]) {
          const from = { timeline, revision: Revision.make(viewer.revision) }
          const resumption = resumeAt(now, client, from)
          viewer.apply({ type: "auth_success", data: { resumed: true } })
          if (resumption?._tag === "Resumed") {
            for (const { message, revision } of resumption.messages.slice(0, received)) {
              viewer.apply(
                JSON.parse(encodeViewMessage["control.v1"](message, revision, Revision.make(viewer.revision)))
              )
            }
          } else viewer.view = viewFromConfig(expected)
        }
        assert.deepStrictEqual(
          viewer.view,
          viewFromConfig(expected),
          `${client.type} ${client.id} from ${then.revision}`
        )
      }
    }), { arbitrary: { runs: 1_000, size: 60 } })

  it("a tunnel that moved away and changed again is deleted at the revision of its move", () => {
    const put = (row: number, variant: number) => ({ kind: "tunnel" as const, row, variant })
    const agents = [0, 1].map((row) => ({ kind: "agent" as const, row, variant: 0 }))
    // The variant decides the tunnel's agent: variants 0 and 3 belong to agent 0, variants 1 and 4 to agent 1.
    const changes = toChanges([...agents, put(0, 0), put(1, 0), put(0, 1), put(1, 3), put(0, 4)])
    const now = changes.reduce(apply, start)
    const resumption = resumeAt(now, allClients[0] as ClientRef, { timeline, revision: Revision.make(4) })
    assert.deepStrictEqual(
      resumption?._tag === "Resumed" &&
        resumption.messages.map(({ message, revision }) => [message.type, Number(revision)]),
      [["tunnel_delete", 5], ["tunnel_update", 6]]
    )
  })

  it.effect.prop("a resuming agent gets no message about a tunnel that it never had", {
    commands: Commands,
    split: Split
  }, (
    { commands, split }
  ) =>
    Effect.sync(() => {
      const changes = toChanges(commands)
      const then = changes.slice(0, split).reduce(apply, start)
      const now = changes.slice(split).reduce(apply, then)
      for (const client of allClients) {
        if (client.type !== "agent") continue
        const resumption = resumeAt(now, client, { timeline, revision: then.revision })
        if (resumption?._tag !== "Resumed") continue
        const own = new Set(
          changes.flatMap((change) =>
            change._tag === "TunnelPut" && change.tunnel.agentId === client.id ? [change.tunnel.id as string] : []
          )
        )
        for (const { message } of resumption.messages) {
          if (message.type.startsWith("tunnel_")) assert.isTrue(own.has((message.data as { id: string }).id))
        }
      }
    }), { arbitrary: { runs: 200, size: 60 } })

  it.effect.prop(
    "a history read from the change log resumes like a history of applied changes",
    { commands: Commands, split: Split },
    (
      { commands, split }
    ) =>
      Effect.sync(() => {
        const changes = toChanges(commands)
        const followed = changes.reduce(apply, start)
        const entries = followed.history.chunks.flat()
        const read = load(timeline, followed.revision, changes, History.fromEntries(Revision.make(0), entries))
        for (const client of allClients) {
          const from = { timeline, revision: Revision.make(Math.min(split, changes.length)) }
          assert.deepStrictEqual(resumeAt(read, client, from), resumeAt(followed, client, from))
        }
      }),
    { arbitrary: { runs: 100, size: 60 } }
  )

  it("another timeline, a future revision, a compacted revision and an own change each require a config", () => {
    const changes = toChanges([
      { kind: "agent", row: 0, variant: 0 },
      { kind: "gateway", row: 0, variant: 1 },
      { kind: "agent", row: 0, variant: 1 }
    ])
    const state = changes.reduce(apply, start)
    const agent = allClients[0] as ClientRef
    const outcome = (from: { timeline: Timeline; revision: Revision }, at = state) => {
      const resumption = resumeAt(at, agent, from)
      return resumption?._tag === "NotResumed" ? resumption.reason : resumption?._tag
    }
    assert.strictEqual(outcome({ timeline: Timeline.make("other"), revision: Revision.make(3) }), "timeline")
    assert.strictEqual(outcome({ timeline, revision: Revision.make(4) }), "ahead")
    assert.strictEqual(outcome({ timeline, revision: Revision.make(2) }), "own")
    assert.strictEqual(outcome({ timeline, revision: Revision.make(3) }), "Resumed")
    const trimmed = { ...state, history: History.empty(Revision.make(3)) }
    assert.strictEqual(outcome({ timeline, revision: Revision.make(2) }, trimmed), "compacted")
    assert.strictEqual(outcome({ timeline, revision: Revision.make(3) }, trimmed), "Resumed")
  })

  it("the history is bounded and keeps every change after its start revision", () => {
    const gateway = { type: "gateway" as const, id: gatewayIds[0] as GatewayId }
    let history = History.empty(Revision.make(0))
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
    assert.isUndefined(History.entriesSince(history, Revision.make(history.startRevision - 1), gateway))
    const kept = History.entriesSince(history, history.startRevision, gateway) ?? []
    assert.isAtLeast(kept.length, History.capacity)
    assert.strictEqual(kept[0]?.revision, history.startRevision + 1)
    assert.strictEqual(kept.length, total - history.startRevision)
  })
})
