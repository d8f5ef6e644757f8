/**
 * Wires the server: rows → feed → views → connections, with operators on the other side.
 *
 *     operators ──► operatorApi ──► services ──► rows ──► feed ──► views ──► connections ──► agents, gateways
 *
 * Services write rows and broadcast nothing. The feed reads each committed row, and `views/` computes what each client
 * may see of it. `views/` is pure and has no layer here: `feed` and `connections` call its functions.
 */
import { AdminTokenStore } from "./store/AdminTokenStore.ts"
import { AgentStore } from "./store/AgentStore.ts"
import { ApiKeyStore } from "./store/ApiKeyStore.ts"
import { AuditStore } from "./store/AuditStore.ts"
import { Backup } from "./store/backup/Backup.ts"
import { CertificateStore } from "./store/CertificateStore.ts"
import { ChangeLog } from "./store/ChangeLog.ts"
import * as Database from "./store/Database.ts"
import { DataDirectory } from "./store/DataDirectory.ts"
import { DoctorStore } from "./store/DoctorStore.ts"
import { EventStore } from "./store/EventStore.ts"
import { GatewayStore } from "./store/GatewayStore.ts"
import { HighWaterMarkStore } from "./store/HighWaterMark.ts"
import { NodeStore } from "./store/NodeStore.ts"
import { ReferenceStore } from "./store/ReferenceStore.ts"
import { PresenceStore } from "./store/PresenceStore.ts"
import { MasterKeyStore } from "./store/secrets/MasterKeyStore.ts"
import { Secrets } from "./store/secrets/Secrets.ts"
import { TunnelStore } from "./store/TunnelStore.ts"
import { ReportStore } from "./store/ReportStore.ts"
import { WriteCheck } from "./store/WriteCheck.ts"
import { ChangeBus } from "./feed/ChangeBus.ts"
import { ChangeNotifier } from "./feed/ChangeNotifier.ts"
import * as Compaction from "./feed/Compaction.ts"
import { Network } from "./feed/Network.ts"
import { Events } from "./events/Events.ts"
import { AdminTokens } from "./services/AdminTokens.ts"
import { Agents } from "./services/Agents.ts"
import { ApiKeys } from "./services/ApiKeys.ts"
import * as AuditRetention from "./services/AuditRetention.ts"
import * as CertificateExpiry from "./services/CertificateExpiry.ts"
import { Certificates } from "./services/Certificates.ts"
import { Gateways } from "./services/Gateways.ts"
import { References } from "./services/References.ts"
import { MasterKeys } from "./services/MasterKeys.ts"
import { Serving } from "./services/Serving.ts"
import { TunnelReports } from "./services/TunnelReports.ts"
import { Tunnels } from "./services/Tunnels.ts"
import { Authenticator } from "./clients/Authenticator.ts"
import { ClientRegistry } from "./clients/ClientRegistry.ts"
import { Deliveries } from "./clients/Deliveries.ts"
import * as Heartbeat from "./clients/Heartbeat.ts"
import { Presence } from "./clients/Presence.ts"
import * as Revocations from "./clients/Revocations.ts"
import * as EventRelay from "./cluster/EventRelay.ts"
import { NodeLease } from "./cluster/NodeLease.ts"
import { Connections } from "./connection/Connections.ts"
import { Listener } from "./connection/Listener.ts"
import { Ingress } from "./ingress/Ingress.ts"
import * as HttpServer from "./http/Server.ts"
import { Doctor } from "./doctor/Doctor.ts"
import { Effect, Layer } from "effect"

/** Rows are the truth. One PostgreSQL database, and one store for each table. */
const rows = Layer.mergeAll(
  AgentStore.layer,
  GatewayStore.layer,
  TunnelStore.layer,
  ReportStore.layer,
  CertificateStore.layer,
  ApiKeyStore.layer,
  AdminTokenStore.layer,
  AuditStore.layer,
  EventStore.layer,
  PresenceStore.layer,
  NodeStore.layer,
  ChangeLog.layer,
  HighWaterMarkStore.layer,
  Backup.layer,
  DoctorStore.layer,
  ReferenceStore.layer,
  MasterKeyStore.layer,
  WriteCheck.layer
).pipe(
  Layer.provideMerge(Secrets.layer),
  Layer.provideMerge(Database.layer),
  Layer.provideMerge(DataDirectory.layer)
)

/**
 * Reads committed changes by revision. One fiber applies them to the network state, computes deltas by `views/`, and
 * publishes the deltas to each audience.
 */
const feed = Network.layer.pipe(
  Layer.provideMerge(ChangeBus.layer),
  Layer.provideMerge(ChangeNotifier.layer),
  Layer.provideMerge(Events.layer)
)

/** Business operations of the HTTP API, the library and the clients. Services write rows and know no transport. */
export const services = Layer.mergeAll(
  Agents.layer,
  Gateways.layer,
  Tunnels.layer,
  TunnelReports.layer,
  Serving.layer,
  Certificates.layer,
  ApiKeys.layer
)

/** Number of clients that are connected to this node. */
const connectedClients = Effect.flatMap(ClientRegistry, ({ newest }) => Effect.map(newest, ({ length }) => length))

/**
 * Sessions of agents and gateways: authentication, presence rows, heartbeats, delivery state, revocation, and the lease
 * that gives this node the right to hold sessions.
 */
export const clients = Layer.mergeAll(
  Authenticator.layer,
  Presence.layer,
  Deliveries.layer,
  Heartbeat.layer,
  EventRelay.layer,
  Revocations.layer
).pipe(
  Layer.provideMerge(NodeLease.layer(connectedClients)),
  Layer.provideMerge(ClientRegistry.layer)
)

/** Periodic tasks of the whole cluster. Every node runs them, and the database makes each piece of work happen once. */
const clusterTasks = Layer.mergeAll(Compaction.layer, AuditRetention.layer, CertificateExpiry.layer, MasterKeys.layer)

/** Everything below the two ports. */
const core = Layer.merge(clients, clusterTasks).pipe(
  Layer.provideMerge(services),
  Layer.provideMerge(feed),
  Layer.provideMerge(rows)
)

/** WebSocket port for agents and gateways: sends each client its view, then the updates that the feed publishes. */
const connections = Listener.layer.pipe(Layer.provide(Connections.layer))

/** The server without the HTTP API, for an application that embeds Control and has its own API. */
export const layerWithoutApi = connections.pipe(Layer.provide(Ingress.layer), Layer.provideMerge(core))

/** HTTP port for operators: the API over `services`, health checks and metrics. */
const operatorApi = HttpServer.layer.pipe(Layer.provide([AdminTokens.layer, References.layer, Doctor.layer]))

/** The complete server. At shutdown both ports close before anything below them. */
export const layer = Layer.mergeAll(connections, operatorApi).pipe(
  Layer.provideMerge(Ingress.layer),
  Layer.provideMerge(core)
)
