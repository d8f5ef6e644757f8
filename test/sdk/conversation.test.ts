import { type Action, type Conversation, hear, initial } from "#sdk/conversation.ts"
import { readFrame } from "#sdk/messages.ts"
import { assert, describe, it } from "@effect/vitest"
import { agentConfig, tunnelStep, welcome } from "./frames.ts"

/** Hears the frames one after the other, at the same moment. */
const talk = (from: Conversation, ...frames: ReadonlyArray<object>) =>
  frames.reduce<{ conversation: Conversation; actions: ReadonlyArray<Action> }>(({ actions, conversation }, frame) => {
    const [more, next] = hear(conversation, readFrame(JSON.stringify(frame), "agent"), 0)
    return { conversation: next, actions: [...actions, ...more] }
  }, { conversation: from, actions: [] })

const before = talk(initial(undefined), welcome({ resumed: false }), agentConfig({ revision: 10 })).conversation.held
const tags = (actions: ReadonlyArray<Action>) => actions.map((action) => action._tag)

describe("a conversation", () => {
  it("goes on from what is held only where Control resumes it, for the same client, in the same history", () => {
    const step = tunnelStep("create", { id: "t1", revision: 11, previous: 10 })
    assert.deepStrictEqual(tags(talk(initial(before), welcome({ resumed: true }), step).actions), ["Ready", "Apply"])
    for (const other of [{ id: "a2" }, { timeline: "another" }]) {
      const { actions } = talk(initial(before), welcome({ resumed: true, ...other }), step)
      assert.deepStrictEqual(tags(actions), ["Ready", "Say"], JSON.stringify(other))
    }
  })

  it("takes no step before the config that it was promised, and asks for it once", () => {
    const steps = [11, 12].map((revision) => tunnelStep("create", { id: "t1", revision, previous: revision - 1 }))
    const { actions } = talk(initial(before), welcome({ resumed: false }), ...steps, agentConfig({ revision: 12 }))
    assert.deepStrictEqual(tags(actions), ["Ready", "Say", "Apply"])
  })
})
