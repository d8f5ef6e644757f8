/**
 * Deliberate faults in presence, sessions and connections. Skipping the release of single sessions on stop is no fault,
 * because `NodeStore.release` and the sweep of drained clients give the same result (test/server/cluster/nodes.test.ts).
 */
import { type Mutant, mutant } from "./Mutant.ts"

export const clientMutants: ReadonlyArray<Mutant> = [
  mutant(
    "clients are evicted after a pause of the node",
    "src/server/clients/Heartbeat.ts",
    "const allowance = stallAllowanceMillis(lateMillis)",
    "const allowance = 0"
  ),
  mutant(
    "silent clients are never closed",
    "src/server/clients/Heartbeat.ts",
    "for (const { peer } of silent) peer.close(\"silent\")",
    ""
  ),
  mutant(
    "one silent client closes all other clients",
    "src/server/clients/Heartbeat.ts",
    "for (const { peer } of silent) peer.close(\"silent\")",
    "if (silent.length > 0) for (const { peer } of clients) peer.close(\"silent\")"
  ),
  mutant(
    "a revoked key still authenticates",
    "src/server/network/NetworkState.ts",
    "    case \"KeyRemoved\":\n      return removeKey(state, change.id)",
    "    case \"KeyRemoved\":\n      return state"
  ),
  mutant(
    "a client with a revoked key is not closed",
    "src/server/clients/Revocations.ts",
    "if (reason !== undefined) client.peer.close(reason)",
    ""
  ),
  mutant(
    "an unknown key is rejected without catching up with the log",
    "src/server/clients/Authenticator.ts",
    "yield* Effect.tapError(network.catchUp, () => Metric.update(unavailable, 1))",
    ""
  ),
  mutant(
    "an outage of the database is reported as a wrong key",
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
    "the end of a replaced session removes the newer one from the registry",
    "src/server/clients/ClientRegistry.ts",
    "newest.value.session === client.session",
    "true"
  ),
  mutant(
    "the end of an old session marks the new one offline",
    "test/simulation/presenceStore.ts",
    "          for (const item of held) {\n            const row = rowHeldBy(item)",
    "          for (const item of held) {\n            const row = presence.get(nameOf(item))"
  ),
  mutant(
    "a touch does not detect a takeover",
    "src/server/clients/Presence.ts",
    "yield* closeLost(store, lost)\n",
    ""
  ),
  mutant(
    "sessions are never touched",
    "src/server/clients/Presence.ts",
    "const seen = clients.filter(",
    "const seen = clients.slice(0, 0).filter("
  ),
  mutant(
    "a failed release is not retried",
    "src/server/clients/presenceReleases.ts",
    "Effect.andThen(Effect.retry(releaseEnded, Schedule.spaced(\"1 second\")))",
    "Effect.andThen(Effect.ignore(releaseEnded))"
  ),
  mutant(
    "clients of a dead node stay online",
    "src/server/clients/Presence.ts",
    "const swept = yield* store.expireSessions(maxSilence)",
    "const swept: ReadonlyArray<never> = []"
  ),
  mutant(
    "clients of a live node are marked offline by the sweep",
    "test/simulation/nodeStores.ts",
    "filter((id) => !database.hasLease(id))",
    "filter(() => true)"
  )
]

export const sessionMutants: ReadonlyArray<Mutant> = [
  mutant(
    "an ack of a revision that was never sent is accepted",
    "src/server/clients/Deliveries.ts",
    "if (revision > state.lastMessageRevision) return isOfPreviousTimeline(state, revision)",
    ""
  ),
  mutant(
    "an ack in flight during a timeline change counts as an ack ahead",
    "src/server/clients/Deliveries.ts",
    "previousTimelineRevision !== undefined && revision > lastMessageRevision &&\n    revision <= previousTimelineRevision",
    "false"
  ),
  mutant(
    "a client receives changes that were committed after its deletion",
    "src/server/connection/forward.ts",
    "if (state.keys !== keys) {",
    "if (state.keys === undefined) {"
  ),
  mutant(
    "an ack does not clear an older nack",
    "src/server/clients/Deliveries.ts",
    "if (state.rejected !== undefined && state.rejected.revision <= revision) state.rejected = undefined",
    ""
  ),
  mutant(
    "a nack of a revision that was never sent is accepted",
    "src/server/clients/Deliveries.ts",
    "nack.revision > state.lastMessageRevision || ",
    ""
  ),
  mutant(
    "heartbeat_ack names a revision that the client has not received",
    "src/server/connection/perform.ts",
    "revision: client.delivery.lastMessageRevision }",
    "revision: client.delivery.sent }"
  ),
  mutant(
    "resync requests have no limit",
    "src/server/session/messageLimits.ts",
    "? [false, usage]",
    "? [true, usage]"
  ),
  mutant(
    "the message rate of a client has no limit",
    "src/server/session/messageLimits.ts",
    "if (messages !== undefined) return [\"pass\", { ...usage, messages,",
    "return [\"pass\", { ...usage,"
  ),
  mutant(
    "a stopping node sends no drain message",
    "src/server/connection/Connections.ts",
    "if (drain !== undefined) socket.write([messageFrame(drain)])",
    ""
  ),
  mutant(
    "connections that do not authenticate are never closed",
    "src/server/connection/Connections.ts",
    "socket.close(\"silent\")",
    "void socket"
  ),
  mutant(
    "a certificate is accepted before it is stored",
    "src/server/connection/perform.ts",
    "    certificates.storeObtained(gateway, certificate).pipe(\n",
    "    Effect.forkDetach(Effect.ignore(certificates.storeObtained(gateway, certificate))).pipe(\n"
  ),
  mutant(
    "a gateway's certificate is stored without the checks for gateways",
    "src/server/services/Certificates.ts",
    "const at = yield* monotonicMillis\n",
    "const at = yield* monotonicMillis\n          yield* store.put(row)\n"
  ),
  mutant(
    "a stopping node does not close its connections",
    "src/server/connection/Connections.ts",
    "for (const socket of open) socket.close(\"restarting\")",
    ""
  )
]
