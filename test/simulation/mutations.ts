/** Deliberate faults that the simulator must find. A mutant that survives shows a gap in the simulator. */
import { clientMutants, sessionMutants } from "./clientMutations.ts"
import { type Mutant, mutant } from "./Mutant.ts"

const feed: ReadonlyArray<Mutant> = [
  mutant(
    "revisions become visible out of order, as with a PostgreSQL sequence",
    "test/simulation/SimulatedDatabase.ts",
    "this.log = [...this.log, logged]",
    "this.world.after(this.world.random.between(0, 40), () => { this.log = [...this.log, logged].toSorted((a, b) => a.revision - b.revision) })"
  ),
  mutant(
    "nodes do not poll the change log when notifications are lost",
    "src/server/feed/ChangeNotifier.ts",
    "yield* Effect.forkScoped(Effect.repeat(wake, Schedule.spaced(changePollInterval)))",
    ""
  ),
  mutant(
    "a lost LISTEN connection is not opened again",
    "src/server/feed/ChangeNotifier.ts",
    "Effect.retry(listenRetrySchedule),",
    "Effect.ignore,"
  ),
  mutant(
    "no client receives a config after the node has reloaded the network",
    "src/server/feed/Network.ts",
    "yield* bus.publishResync(state)",
    "yield* Effect.void"
  ),
  mutant(
    "removals of clients and keys are not published",
    "src/server/feed/Network.ts",
    "if (page.changes.some((change) => removalTags.has(change._tag))) yield* PubSub.publish(removals, undefined)",
    ""
  ),
  {
    name: "a failed snapshot read counts as an empty network",
    edits: [
      {
        file: "src/server/feed/Network.ts",
        find: "yield* guard.check(baseline, { ...snapshot, state })",
        replace: ""
      },
      {
        file: "src/server/feed/Network.ts",
        find:
          "const snapshot = yield* readSnapshot(log, guard.baseline ?? baseline)\n        const { state: before } = yield* Ref.get(current)",
        replace: "const { state: before } = yield* Ref.get(current)\n" +
          "        const snapshot = yield* Effect.orElseSucceed(readSnapshot(log, baseline), () => ({ state: empty(before.timeline, before.revision), tag: null, unreadable: [], accepted: undefined }))"
      }
    ]
  },
  mutant(
    "a different change at the same revision is not detected",
    "src/server/feed/continuity.ts",
    "|| differs(tag, page.tagBefore)) return \"historyLost\"",
    ") return \"historyLost\""
  ),
  mutant(
    "a history that has become shorter is not detected",
    "src/server/feed/continuity.ts",
    "if (page.newest < revision || differs",
    "if (differs"
  ),
  mutant(
    "a new timeline is not detected",
    "src/server/feed/continuity.ts",
    "if (page.timeline !== timeline) return \"timelineChanged\"",
    ""
  ),
  mutant(
    "compacted changes that the node has not read are not detected",
    "src/server/feed/continuity.ts",
    "return isNext ? \"contiguous\" : \"compacted\"",
    "return \"contiguous\""
  ),
  mutant(
    "the backlog of a slow connection has no limit",
    "src/server/feed/ChangeBus.ts",
    "PubSub.sliding<Update>(topic.startsWith(\"gateway\") ? capacity.gateway : capacity.agent)",
    "PubSub.unbounded<Update>()"
  )
]

const views: ReadonlyArray<Mutant> = [
  mutant(
    "a gap before a batch of deltas is not detected",
    "src/server/connection/updatePlan.ts",
    "if (update.previous > revision) return { _tag: \"Snapshot\", missed: true }",
    ""
  ),
  mutant(
    "a single delta is skipped",
    "src/server/connection/updatePlan.ts",
    "if (update.revision <= revision) continue",
    "if (update.revision <= revision + 1) continue"
  ),
  mutant(
    "a delta names its own revision as the previous one",
    "src/server/views/Batch.ts",
    "messages[index - 1]?.revision ?? previous",
    "revision"
  ),
  mutant(
    "gateways receive the private keys of agents",
    "src/server/views/view.ts",
    "  wireguardPublicKey: agent.wireguardPublicKey\n})",
    "  wireguardPublicKey: agent.wireguardPublicKey,\n  wireguardPrivateKey: privateKeyOf(agent)\n})"
  ),
  mutant(
    "the snapshot is read before the subscription starts",
    "src/server/connection/forward.ts",
    "    const subscription = yield* bus.subscribe(topic)\n    const view = yield* inTurn(\n      client,\n      socket,\n      Effect.map(network.state, (state) => {\n",
    "    const early = yield* network.state\n    yield* Effect.sleep(3)\n    const subscription = yield* bus.subscribe(topic)\n    const view = yield* inTurn(\n      client,\n      socket,\n      Effect.map(Effect.succeed(early), (state) => {\n"
  ),
  mutant(
    "a client whose key was revoked during login still receives a config",
    "src/server/connection/forward.ts",
    "        if (reason !== undefined) return close(socket, reason)\n        return start",
    "        return start"
  ),
  mutant(
    "the server keeps writing to a backed up client",
    "src/server/connection/forward.ts",
    "          deliveries.recordSent(client, position)\n        }\n        if (socket.hasBacklog()) yield* socket.drained",
    "          deliveries.recordSent(client, position)\n        }"
  ),
  mutant(
    "a client can resume across timelines",
    "src/server/views/resume.ts",
    "if (position.timeline !== state.timeline) return notResumed(\"timeline\")",
    ""
  ),
  mutant(
    "a client can resume from a revision in the future",
    "src/server/views/resume.ts",
    "if (position.revision > state.revision) return notResumed(\"ahead\")",
    ""
  ),
  mutant(
    "a client can resume from a compacted revision",
    "src/server/network/History.ts",
    "if (revision < history.startRevision) return undefined",
    ""
  ),
  mutant(
    "a resuming client misses changes to the client's row",
    "src/server/views/resume.ts",
    "entry.own) return notResumed(\"own\")",
    "false) return notResumed(\"own\")"
  ),
  mutant(
    "the plain level receives tunnels of every protocol",
    "src/server/views/view.ts",
    "export const isAtPlainLevel = ({ protocol }: Tunnel): boolean => protocol === \"http\"",
    "export const isAtPlainLevel = ({ protocol }: Tunnel): boolean => protocol !== \"udp\""
  ),
  mutant(
    "a delta has the port that the tunnel had before",
    "src/server/views/delta.ts",
    "\"control.v1\": messageOf(id, Option.map(before, tunnelForAgentV1), Option.map(after, tunnelForAgentV1))",
    "\"control.v1\": messageOf(id, Option.map(before, tunnelForAgentV1), Option.map(after, (row) => tunnelForAgentV1({ ...row, port: Option.getOrElse(Option.map(before, ({ port }) => port), () => 20_000) })))"
  ),
  mutant(
    "a scoped gateway receives the certificates of its tls tunnels",
    "src/server/network/scope.ts",
    "const needsCertificate = ({ protocol }: Tunnel): boolean => protocol === \"http\"",
    "const needsCertificate = ({ protocol }: Tunnel): boolean => protocol !== \"udp\""
  ),
  mutant(
    "a scoped gateway receives every certificate in its config",
    "src/server/network/scope.ts",
    "certificates: existing<string, Certificate>(names, (name) => BucketMap.get(state.certificates, name))",
    "certificates: BucketMap.values(state.certificates) as ReadonlyArray<Certificate>"
  ),
  mutant(
    "a scoped gateway receives changes of certificates outside its scope",
    "src/server/views/scopedDeltas.ts",
    "(state) => seesCertificate(state, gateway, name)",
    "() => true"
  ),
  mutant(
    "an agent sees gateways that do not serve it",
    "src/server/network/scope.ts",
    "if (gateway.serves === null || gateway.serves.agents.has(agent)) return true",
    "return true"
  ),
  mutant(
    "a gateway receives no message when its scope changes",
    "src/server/views/deltaMessages.ts",
    "slot: gateway.slot, serves: gateway.serves }",
    "slot: gateway.slot }"
  ),
  mutant(
    "a newly scoped gateway keeps receiving the deltas of unscoped gateways",
    "src/server/connection/forward.ts",
    "              if (topicOf(latest, client.ref) !== topic) return \"topicChanged\" as const\n",
    ""
  ),
  mutant(
    "a scoped gateway that gains a tunnel does not receive the certificate of its domain",
    "src/server/views/scopedDeltas.ts",
    "...names.map((name) => certificateDiff(states, name))",
    ""
  ),
  mutant(
    "a scoped gateway can resume across changes of its scope",
    "src/server/views/resume.ts",
    "if (mayHaveRescoped(state, receiver.ref, entry)) return notResumed(\"own\")",
    ""
  ),
  mutant(
    "an agent keeps a tunnel that moved to another agent",
    "src/server/views/changeDeltas.ts",
    "[old, current].flatMap",
    "[current].flatMap"
  )
]

export const mutants: ReadonlyArray<Mutant> = [...feed, ...views, ...clientMutants, ...sessionMutants]
