/** Deliberate faults, each of which the simulator must find. A mutant that nobody finds shows a hole in the simulator. */

export interface Edit {
  readonly file: string
  /** Occurs exactly once in the file. */
  readonly find: string
  readonly replace: string
}

export interface Mutant {
  readonly name: string
  readonly edits: ReadonlyArray<Edit>
}

const mutant = (name: string, file: string, find: string, replace: string): Mutant => ({
  name,
  edits: [{ file, find, replace }]
})

const feed: ReadonlyArray<Mutant> = [
  mutant(
    "revisions become visible out of order, as with a sequence",
    "test/simulation/Database.ts",
    "this.log = [...this.log, logged]",
    "this.world.after(this.world.random.between(0, 40), () => { this.log = [...this.log, logged].toSorted((a, b) => a.revision - b.revision) })"
  ),
  mutant(
    "the log is not polled",
    "src/feed/ChangeFeed.ts",
    "yield* Effect.forkScoped(Effect.repeat(wake, Schedule.spaced(catchUpEvery)))",
    ""
  ),
  mutant(
    "a lost LISTEN connection is not made anew",
    "src/feed/ChangeFeed.ts",
    "Effect.retry(backOff),",
    "Effect.ignore,"
  ),
  mutant(
    "after a whole reading nobody is sent a config",
    "src/feed/Network.ts",
    "yield* bus.restart",
    "yield* Effect.void"
  ),
  mutant(
    "removals are not published",
    "src/feed/Network.ts",
    "if (page.changes.some((change) => removing.has(change._tag))) yield* PubSub.publish(removed, undefined)",
    ""
  ),
  {
    name: "a failed reading is taken for an empty world",
    edits: [
      {
        file: "src/feed/Network.ts",
        find: "import { apply, type Change, type NetworkState } from",
        replace: "import { apply, type Change, empty, type NetworkState } from"
      },
      {
        file: "src/feed/Network.ts",
        find: "const snapshot = yield* log.snapshot\n        yield* Ref.set(current, snapshot)",
        replace: "const { state } = yield* Ref.get(current)\n" +
          "        const snapshot = yield* Effect.orElseSucceed(log.snapshot, () => ({ state: empty(state.timeline, state.revision), tag: null }))\n" +
          "        yield* Ref.set(current, snapshot)"
      }
    ]
  },
  mutant(
    "a change at the same number is not told from another",
    "src/feed/continuity.ts",
    "|| differs(tag, page.tagBefore)) return \"lost\"",
    ") return \"lost\""
  ),
  mutant(
    "a history that has become shorter is not noticed",
    "src/feed/continuity.ts",
    "if (page.newest < revision || differs",
    "if (differs"
  ),
  mutant(
    "another timeline is not noticed",
    "src/feed/continuity.ts",
    "if (page.timeline !== timeline) return \"renamed\"",
    ""
  ),
  mutant(
    "a forgotten part of the log is not noticed",
    "src/feed/continuity.ts",
    "return isNext ? \"continued\" : \"missed\"",
    "return \"continued\""
  ),
  mutant(
    "what waits for a slow connection has no bound",
    "src/feed/ChangeBus.ts",
    "PubSub.sliding<Push>(topic === \"gateways\" ? capacity.gateways : capacity.agent)",
    "PubSub.unbounded<Push>()"
  )
]

const views: ReadonlyArray<Mutant> = [
  mutant(
    "a gap before a batch is not noticed",
    "src/connection/plan.ts",
    "if (push.previous > revision) return { _tag: \"Config\", missed: true }",
    ""
  ),
  mutant(
    "a lone step is left out",
    "src/connection/plan.ts",
    "if (push.revision <= revision) continue",
    "if (push.revision <= revision + 1) continue"
  ),
  mutant(
    "a step names itself as the one before it",
    "src/feed/Batch.ts",
    "parts[index - 1]?.revision ?? told",
    "revision"
  ),
  mutant(
    "a gateway is told the private keys of agents",
    "src/network/view.ts",
    "  wireguardPublicKey: agent.wireguardPublicKey\n})",
    "  wireguardPublicKey: agent.wireguardPublicKey,\n  wireguardPrivateKey: privateKeyOf(agent)\n})"
  ),
  mutant(
    "the snapshot is taken before the subscription",
    "src/connection/outbound.ts",
    "    const pushes = yield* bus.follow(client.ref)\n    const state = yield* network.state\n",
    "    const state = yield* network.state\n    yield* Effect.sleep(3)\n    const pushes = yield* bus.follow(client.ref)\n"
  ),
  mutant(
    "a config is sent to whom the key was revoked meanwhile",
    "src/connection/outbound.ts",
    "if (reason !== undefined) return socket.close(reason)",
    ""
  ),
  mutant(
    "a slow client is not waited for",
    "src/connection/outbound.ts",
    "if (socket.isBackedUp()) yield* socket.drained",
    ""
  ),
  mutant(
    "resuming goes across timelines",
    "src/network/resume.ts",
    "if (from.timeline !== state.timeline) return not(\"timeline\")",
    ""
  ),
  mutant(
    "resuming from the future is admitted",
    "src/network/resume.ts",
    "if (from.revision > state.revision) return not(\"ahead\")",
    ""
  ),
  mutant(
    "resuming from before what is kept is admitted",
    "src/network/History.ts",
    "if (revision < history.from) return undefined",
    ""
  ),
  mutant(
    "resuming forgets where a tunnel was before",
    "src/network/History.ts",
    "agents: [...new Set([...earlier.agents, ...later.agents])],",
    ""
  ),
  mutant(
    "resuming leaves out that the client's own part has changed",
    "src/network/resume.ts",
    "touch.own) return not(\"own\")",
    "false) return not(\"own\")"
  ),
  mutant(
    "a tunnel that moves away stays with its agent",
    "src/network/step.ts",
    "[old, current].flatMap",
    "[current].flatMap"
  )
]

const clients: ReadonlyArray<Mutant> = [
  mutant(
    "a stall is not forgiven",
    "src/clients/Heartbeat.ts",
    "const forgiven = forgivenFor(late)",
    "const forgiven = 0"
  ),
  mutant(
    "silence is not looked for",
    "src/clients/Heartbeat.ts",
    "for (const { peer } of silent) peer.close(\"silent\")",
    ""
  ),
  mutant(
    "one silent client takes all others with it",
    "src/clients/Heartbeat.ts",
    "for (const { peer } of silent) peer.close(\"silent\")",
    "if (silent.length > 0) for (const { peer } of clients) peer.close(\"silent\")"
  ),
  mutant(
    "a revoked key opens the door still",
    "src/network/NetworkState.ts",
    "    case \"KeyRemoved\":\n      return removeKey(state, change.id)",
    "    case \"KeyRemoved\":\n      return state"
  ),
  mutant(
    "a revoked client is not closed",
    "src/clients/Revocations.ts",
    "if (reason !== undefined) client.peer.close(reason)",
    ""
  ),
  mutant(
    "a key is refused without a look at the log",
    "src/clients/Authenticator.ts",
    "yield* Effect.tapError(network.catchUp, () => Metric.update(unavailable, 1))",
    ""
  ),
  mutant(
    "an outage is told as a bad key",
    "src/connection/membership.ts",
    "StoreUnavailable: () => Effect.succeed<Event>({ _tag: \"Unavailable\" })",
    "StoreUnavailable: () => Effect.succeed<Event>({ _tag: \"Refused\" })"
  ),
  mutant(
    "a takeover does not close the old session",
    "src/clients/ClientRegistry.ts",
    "replaced.value.peer.close(\"replaced\")",
    "undefined"
  ),
  mutant(
    "a replaced session takes the newer one's place with it",
    "src/clients/ClientRegistry.ts",
    "newest.value.session === client.session",
    "true"
  ),
  mutant(
    "an old session's end marks the new one offline",
    "test/simulation/feedStores.ts",
    "          for (const item of held) {\n            const row = holds(item)",
    "          for (const item of held) {\n            const row = presence.get(nameOf(item))"
  ),
  mutant(
    "a touch does not notice a takeover",
    "src/clients/Presence.ts",
    "for (const client of seen) if (!held.has(client.session)) client.peer.close(\"replaced\")",
    ""
  ),
  mutant("nobody is touched", "src/clients/Presence.ts", "client.lastSeen >= written)", "false)"),
  mutant(
    "a release that fails is forgotten",
    "src/clients/Presence.ts",
    "Effect.andThen(Effect.retry(releaseEnded, Schedule.spaced(\"1 second\")))",
    "Effect.andThen(Effect.ignore(releaseEnded))"
  ),
  mutant(
    "a stop leaves everybody online",
    "src/clients/Presence.ts",
    "    releaseEnded.pipe(\n      Effect.timeout",
    "    Effect.void.pipe(\n      Effect.timeout"
  ),
  mutant("a dead node's clients stay online", "src/clients/Presence.ts", "Effect.andThen(store.sweep(limit)),", "")
]

const sessions: ReadonlyArray<Mutant> = [
  mutant(
    "an acknowledgement of what was never sent is believed",
    "src/clients/Deliveries.ts",
    "if (revision > client.told) return false",
    ""
  ),
  mutant(
    "an acknowledgement leaves a refusal standing",
    "src/clients/Deliveries.ts",
    "if (client.nack !== undefined && client.nack.revision <= revision) client.nack = undefined",
    ""
  ),
  mutant(
    "a refusal of what was never sent is believed",
    "src/clients/Deliveries.ts",
    "nack.revision > client.told || ",
    ""
  ),
  mutant(
    "heartbeat_ack names what the client was not told",
    "src/connection/perform.ts",
    "revision: client.told }",
    "revision: client.sent }"
  ),
  mutant("configs may be asked for without end", "src/session/limits.ts", "? [false, usage]", "? [true, usage]"),
  mutant(
    "a flood is answered without end",
    "src/session/limits.ts",
    "if (tokens >= 1) return",
    "if (tokens > -1e9) return"
  ),
  mutant(
    "a stop is not announced",
    "src/connection/Sessions.ts",
    "if (goodbye !== undefined) socket.write([textFrame(encodeMessage(goodbye))])",
    ""
  ),
  mutant("nobody is hurried to authenticate", "src/connection/Sessions.ts", "socket.close(\"silent\")", "void socket"),
  mutant(
    "a certificate is accepted before it is stored",
    "src/connection/perform.ts",
    "    certificates.obtained(gateway, certificate).pipe(\n",
    "    Effect.forkDetach(Effect.ignore(certificates.obtained(gateway, certificate))).pipe(\n"
  ),
  mutant(
    "a gateway's certificate is stored like an operator's",
    "src/certificates/Certificates.ts",
    "yield* store.renew(yield* checked(data))",
    "(yield* store.put(yield* checked(data))).value"
  ),
  mutant(
    "a stopping node waits for nobody",
    "src/connection/Sessions.ts",
    "for (const socket of open) socket.close(\"restarting\")",
    ""
  )
]

export const mutants: ReadonlyArray<Mutant> = [...feed, ...views, ...clients, ...sessions]
