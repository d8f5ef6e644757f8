/** Actions and states of one connection of the client library (src/sdk/protocolState.ts). */
import { type Action, initialState, type ProtocolState, receive } from "#sdk/protocolState.ts"
import { readFrame } from "#sdk/messages.ts"
import { assert, describe, it } from "@effect/vitest"
import { agentConfig, authSuccess, tunnelDelta } from "./serverFrames.ts"

/** Processes the frames one after the other at time 0. */
const receiveAll = (from: ProtocolState, ...frames: ReadonlyArray<object>) =>
  frames.reduce<{ state: ProtocolState; actions: ReadonlyArray<Action> }>(({ actions, state }, frame) => {
    const [more, next] = receive(state, readFrame(JSON.stringify(frame), "agent"), 0)
    return { state: next, actions: [...actions, ...more] }
  }, { state: from, actions: [] })

const snapshot =
  receiveAll(initialState(undefined), authSuccess({ resumed: false }), agentConfig({ revision: 10 })).state.snapshot
const tags = (actions: ReadonlyArray<Action>) => actions.map((action) => action._tag)

describe("the protocol state of a client", () => {
  it("a client continues from its snapshot only if Control resumes the same client on the same timeline", () => {
    const delta = tunnelDelta("create", { id: "t1", revision: 11, previous: 10 })
    assert.deepStrictEqual(tags(receiveAll(initialState(snapshot), authSuccess({ resumed: true }), delta).actions), [
      "Ready",
      "Apply"
    ])
    for (const other of [{ id: "a2" }, { timeline: "another" }]) {
      const { actions } = receiveAll(initialState(snapshot), authSuccess({ resumed: true, ...other }), delta)
      assert.deepStrictEqual(tags(actions), ["Ready", "Send"], JSON.stringify(other))
    }
  })

  it("a client applies no delta before the announced config, and requests one resync", () => {
    const deltas = [11, 12].map((revision) => tunnelDelta("create", { id: "t1", revision, previous: revision - 1 }))
    const { actions } = receiveAll(
      initialState(snapshot),
      authSuccess({ resumed: false }),
      ...deltas,
      agentConfig({ revision: 12 })
    )
    assert.deepStrictEqual(tags(actions), ["Ready", "Send", "Apply"])
  })
})
