/** Deliberate faults, each of which the simulator must find. A mutant that nobody finds shows a hole in the simulator. */
import { clientMutants, sessionMutants } from "./clientMutations.ts"
import { type Mutant, mutant } from "./Mutant.ts"

const feed: ReadonlyArray<Mutant> = [
  mutant(
    "revisions become visible out of order, as with a sequence",
    "test/simulation/Database.ts",
    "this.log = [...this.log, logged]",
    "this.world.after(this.world.random.between(0, 40), () => { this.log = [...this.log, logged].toSorted((a, b) => a.revision - b.revision) })"
  ),
  mutant(
    "the log is not polled",
    "src/server/feed/ChangeNotifier.ts",
    "yield* Effect.forkScoped(Effect.repeat(wake, Schedule.spaced(catchUpEvery)))",
    ""
  ),
  mutant(
    "a lost LISTEN connection is not made anew",
    "src/server/feed/ChangeNotifier.ts",
    "Effect.retry(backOff),",
    "Effect.ignore,"
  ),
  mutant(
    "after a whole reading nobody is sent a config",
    "src/server/feed/Network.ts",
    "yield* bus.restart",
    "yield* Effect.void"
  ),
  mutant(
    "removals are not published",
    "src/server/feed/Network.ts",
    "if (page.changes.some((change) => removing.has(change._tag))) yield* PubSub.publish(removed, undefined)",
    ""
  ),
  {
    name: "a failed reading is taken for an empty world",
    edits: [
      {
        file: "src/server/feed/Network.ts",
        find: "yield* hold.admit(known, { ...snapshot, state })",
        replace: ""
      },
      {
        file: "src/server/feed/Network.ts",
        find:
          "const snapshot = yield* readWhole(log, hold.known ?? known)\n        const { state: before } = yield* Ref.get(current)",
        replace: "const { state: before } = yield* Ref.get(current)\n" +
          "        const snapshot = yield* Effect.orElseSucceed(readWhole(log, known), () => ({ state: empty(before.timeline, before.revision), tag: null, leftOut: [], accepted: undefined }))"
      }
    ]
  },
  mutant(
    "a change at the same number is not told from another",
    "src/server/feed/continuity.ts",
    "|| differs(tag, page.tagBefore)) return \"lost\"",
    ") return \"lost\""
  ),
  mutant(
    "a history that has become shorter is not noticed",
    "src/server/feed/continuity.ts",
    "if (page.newest < revision || differs",
    "if (differs"
  ),
  mutant(
    "another timeline is not noticed",
    "src/server/feed/continuity.ts",
    "if (page.timeline !== timeline) return \"renamed\"",
    ""
  ),
  mutant(
    "a forgotten part of the log is not noticed",
    "src/server/feed/continuity.ts",
    "return isNext ? \"continued\" : \"missed\"",
    "return \"continued\""
  ),
  mutant(
    "what waits for a slow connection has no bound",
    "src/server/feed/ChangeBus.ts",
    "PubSub.sliding<Push>(topic.startsWith(\"gateway\") ? capacity.gateway : capacity.agent)",
    "PubSub.unbounded<Push>()"
  )
]

const views: ReadonlyArray<Mutant> = [
  mutant(
    "a gap before a batch is not noticed",
    "src/server/connection/updatePlan.ts",
    "if (push.previous > revision) return { _tag: \"Config\", missed: true }",
    ""
  ),
  mutant(
    "a lone step is left out",
    "src/server/connection/updatePlan.ts",
    "if (push.revision <= revision) continue",
    "if (push.revision <= revision + 1) continue"
  ),
  mutant(
    "a step names itself as the one before it",
    "src/server/views/Batch.ts",
    "parts[index - 1]?.revision ?? told",
    "revision"
  ),
  mutant(
    "a gateway is told the private keys of agents",
    "src/server/views/view.ts",
    "  wireguardPublicKey: agent.wireguardPublicKey\n})",
    "  wireguardPublicKey: agent.wireguardPublicKey,\n  wireguardPrivateKey: privateKeyOf(agent)\n})"
  ),
  mutant(
    "the snapshot is taken before the subscription",
    "src/server/connection/forward.ts",
    "    const pushes = yield* bus.follow(topic)\n    const state = yield* network.state\n",
    "    const state = yield* network.state\n    yield* Effect.sleep(3)\n    const pushes = yield* bus.follow(topic)\n"
  ),
  mutant(
    "a config is sent to whom the key was revoked meanwhile",
    "src/server/connection/forward.ts",
    "if (reason !== undefined) return close(socket, reason)\n    const following",
    "const following"
  ),
  mutant(
    "a slow client is not waited for",
    "src/server/connection/forward.ts",
    "          deliveries.note(client, at)\n        }\n        if (socket.isBackedUp()) yield* socket.drained",
    "          deliveries.note(client, at)\n        }"
  ),
  mutant(
    "resuming goes across timelines",
    "src/server/views/resume.ts",
    "if (from.timeline !== state.timeline) return not(\"timeline\")",
    ""
  ),
  mutant(
    "resuming from the future is admitted",
    "src/server/views/resume.ts",
    "if (from.revision > state.revision) return not(\"ahead\")",
    ""
  ),
  mutant(
    "resuming from before what is kept is admitted",
    "src/server/network/History.ts",
    "if (revision < history.from) return undefined",
    ""
  ),
  mutant(
    "resuming leaves out that the client's own part has changed",
    "src/server/views/resume.ts",
    "touch.own) return not(\"own\")",
    "false) return not(\"own\")"
  ),
  mutant(
    "a limited gateway is told of every certificate",
    "src/server/network/scope.ts",
    "certificates: found<string, Certificate>(names, (name) => Table.get(state.certificates, name))",
    "certificates: Table.values(state.certificates) as ReadonlyArray<Certificate>"
  ),
  mutant(
    "a limited gateway is told of a certificate that it does not serve when that changes",
    "src/server/views/scopedDeltas.ts",
    "|| !seesCertificate(current, gateway, domain)) return []",
    ") return []"
  ),
  mutant(
    "an agent sees gateways that do not serve it",
    "src/server/network/scope.ts",
    "if (gateway.serves === null || gateway.serves.agents.has(agent)) return true",
    "return true"
  ),
  mutant(
    "a gateway is not told that it was limited",
    "src/server/views/messages.ts",
    "slot: gateway.slot, serves: gateway.serves }",
    "slot: gateway.slot }"
  ),
  mutant(
    "a gateway that was limited goes on with what all gateways are told",
    "src/server/connection/forward.ts",
    "          if (topicOf(state, client.ref) !== topic) return \"moved\" as const\n",
    ""
  ),
  mutant(
    "what comes with a tunnel is not told to the limited gateway that serves it",
    "src/server/views/scopedDeltas.ts",
    "...Array.from(names).flatMap((name) => certificateInView(turn, gateway, name))",
    ""
  ),
  mutant(
    "a limited gateway resumes across changes of what it serves",
    "src/server/views/resume.ts",
    "if (mayHaveRescoped(state, receiver.ref, touch)) return not(\"own\")",
    ""
  ),
  mutant(
    "a tunnel that moves away stays with its agent",
    "src/server/views/changeDeltas.ts",
    "[old, current].flatMap",
    "[current].flatMap"
  )
]

export const mutants: ReadonlyArray<Mutant> = [...feed, ...views, ...clientMutants, ...sessionMutants]
