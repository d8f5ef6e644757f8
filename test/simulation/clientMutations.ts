/**
 * Deliberate faults in presence, sessions and connections. Skipping the release of single sessions on stop is no fault,
 * because `NodeStore.release` and the sweep of drained clients give the same result (test/server/cluster/nodes.test.ts).
 */
import { type Mutant, mutant } from "./Mutant.ts"

export const clientMutants: ReadonlyArray<Mutant> = [
  mutant(
    "a stall is not forgiven",
    "src/server/clients/Heartbeat.ts",
    "const forgiven = forgivenFor(late)",
    "const forgiven = 0"
  ),
  mutant(
    "silence is not looked for",
    "src/server/clients/Heartbeat.ts",
    "for (const { peer } of silent) peer.close(\"silent\")",
    ""
  ),
  mutant(
    "one silent client takes all others with it",
    "src/server/clients/Heartbeat.ts",
    "for (const { peer } of silent) peer.close(\"silent\")",
    "if (silent.length > 0) for (const { peer } of clients) peer.close(\"silent\")"
  ),
  mutant(
    "a revoked key opens the door still",
    "src/server/network/NetworkState.ts",
    "    case \"KeyRemoved\":\n      return removeKey(state, change.id)",
    "    case \"KeyRemoved\":\n      return state"
  ),
  mutant(
    "a revoked client is not closed",
    "src/server/clients/Revocations.ts",
    "if (reason !== undefined) client.peer.close(reason)",
    ""
  ),
  mutant(
    "a key is refused without a look at the log",
    "src/server/clients/Authenticator.ts",
    "yield* Effect.tapError(network.catchUp, () => Metric.update(unavailable, 1))",
    ""
  ),
  mutant(
    "an outage is told as a bad key",
    "src/server/connection/login.ts",
    "StoreUnavailable: () => Effect.succeed<Event>({ _tag: \"StoreUnavailable\" })",
    "StoreUnavailable: () => Effect.succeed<Event>({ _tag: \"InvalidKey\" })"
  ),
  mutant(
    "a takeover does not close the old session",
    "src/server/clients/ClientRegistry.ts",
    "replaced.value.peer.close(\"replaced\")",
    "undefined"
  ),
  mutant(
    "a replaced session takes the newer one's place with it",
    "src/server/clients/ClientRegistry.ts",
    "newest.value.session === client.session",
    "true"
  ),
  mutant(
    "an old session's end marks the new one offline",
    "test/simulation/presenceStore.ts",
    "          for (const item of held) {\n            const row = rowHeldBy(item)",
    "          for (const item of held) {\n            const row = presence.get(nameOf(item))"
  ),
  mutant(
    "a touch does not notice a takeover",
    "src/server/clients/Presence.ts",
    "yield* closeLost(store, lost)\n",
    ""
  ),
  mutant(
    "nobody is touched",
    "src/server/clients/Presence.ts",
    "const seen = clients.filter(",
    "const seen = clients.slice(0, 0).filter("
  ),
  mutant(
    "a release that fails is forgotten",
    "src/server/clients/presenceReleases.ts",
    "Effect.andThen(Effect.retry(releaseEnded, Schedule.spaced(\"1 second\")))",
    "Effect.andThen(Effect.ignore(releaseEnded))"
  ),
  mutant(
    "a dead node's clients stay online",
    "src/server/clients/Presence.ts",
    "const swept = yield* store.sweep(limit)",
    "const swept: ReadonlyArray<never> = []"
  ),
  mutant(
    "a node that lives is swept away",
    "test/simulation/nodeStores.ts",
    "filter((id) => !database.isLive(id))",
    "filter(() => true)"
  )
]

export const sessionMutants: ReadonlyArray<Mutant> = [
  mutant(
    "an acknowledgement of what was never sent is believed",
    "src/server/clients/Deliveries.ts",
    "if (revision > client.told) return isLate(client, revision)",
    ""
  ),
  mutant(
    "an acknowledgement that was under way when the history changed is taken for one of what was never sent",
    "src/server/clients/Deliveries.ts",
    "toldBefore !== undefined && revision > told && revision <= toldBefore",
    "false"
  ),
  mutant(
    "a client is told what was committed after its deletion",
    "src/server/connection/forward.ts",
    "if (state.keys !== keys) {",
    "if (state.keys === undefined) {"
  ),
  mutant(
    "an acknowledgement leaves a refusal standing",
    "src/server/clients/Deliveries.ts",
    "if (client.nack !== undefined && client.nack.revision <= revision) client.nack = undefined",
    ""
  ),
  mutant(
    "a refusal of what was never sent is believed",
    "src/server/clients/Deliveries.ts",
    "nack.revision > client.told || ",
    ""
  ),
  mutant(
    "heartbeat_ack names what the client was not told",
    "src/server/connection/perform.ts",
    "revision: client.told }",
    "revision: client.sent }"
  ),
  mutant(
    "configs may be asked for without end",
    "src/server/session/messageLimits.ts",
    "? [false, usage]",
    "? [true, usage]"
  ),
  mutant(
    "a flood is answered without end",
    "src/server/session/messageLimits.ts",
    "if (messages !== undefined) return [\"pass\", { ...usage, messages,",
    "return [\"pass\", { ...usage,"
  ),
  mutant(
    "a stop is not announced",
    "src/server/connection/Connections.ts",
    "if (goodbye !== undefined) socket.write([textFrame(encodeMessage(goodbye))])",
    ""
  ),
  mutant(
    "nobody is hurried to authenticate",
    "src/server/connection/Connections.ts",
    "socket.close(\"silent\")",
    "void socket"
  ),
  mutant(
    "a certificate is accepted before it is stored",
    "src/server/connection/perform.ts",
    "    certificates.obtained(gateway, certificate).pipe(\n",
    "    Effect.forkDetach(Effect.ignore(certificates.obtained(gateway, certificate))).pipe(\n"
  ),
  mutant(
    "a gateway's certificate is stored like an operator's",
    "src/server/services/Certificates.ts",
    "yield* store.renew(gateway, yield* checked(data))",
    "(yield* store.put(yield* checked(data))).value"
  ),
  mutant(
    "a stopping node waits for nobody",
    "src/server/connection/Connections.ts",
    "for (const socket of open) socket.close(\"restarting\")",
    ""
  )
]
