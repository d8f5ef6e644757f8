/** The system on one page: rows → feed → network → connections, with operators on the other side of the rows. */
import { AdminTokens } from "./services/AdminTokens.ts"
import { Agents } from "./services/Agents.ts"
import { Certificates } from "./services/Certificates.ts"
import * as Expiry from "./services/CertificateExpiry.ts"
import { Authenticator } from "./clients/Authenticator.ts"
import { ClientRegistry } from "./clients/ClientRegistry.ts"
import { Deliveries } from "./clients/Deliveries.ts"
import * as EventRelay from "./cluster/EventRelay.ts"
import * as Heartbeat from "./clients/Heartbeat.ts"
import { ApiKeys } from "./services/ApiKeys.ts"
import { NodeLease } from "./cluster/NodeLease.ts"
import { Presence } from "./clients/Presence.ts"
import * as Revocations from "./clients/Revocations.ts"
import { Listener } from "./connection/Listener.ts"
import { Connections } from "./connection/Connections.ts"
import { Ingress } from "./ingress/Ingress.ts"
import { Events } from "./events/Events.ts"
import { ChangeBus } from "./feed/ChangeBus.ts"
import { ChangeNotifier } from "./feed/ChangeNotifier.ts"
import * as Compaction from "./feed/Compaction.ts"
import { Network } from "./feed/Network.ts"
import { Gateways } from "./services/Gateways.ts"
import * as HttpServer from "./http/Server.ts"
import { AdminTokenStore } from "./store/AdminTokenStore.ts"
import { AgentStore } from "./store/AgentStore.ts"
import { AuditStore } from "./store/AuditStore.ts"
import { Backup } from "./store/backup/Backup.ts"
import { CertificateStore } from "./store/CertificateStore.ts"
import { ChangeLog } from "./store/ChangeLog.ts"
import * as Database from "./store/Database.ts"
import { Directory } from "./store/Directory.ts"
import { EventStore } from "./store/EventStore.ts"
import { GatewayStore } from "./store/GatewayStore.ts"
import { HighWaterMarkStore } from "./store/HighWaterMark.ts"
import { ApiKeyStore } from "./store/ApiKeyStore.ts"
import { NodeStore } from "./store/NodeStore.ts"
import { MasterKeyStore } from "./store/secrets/MasterKeyStore.ts"
import { PresenceStore } from "./store/PresenceStore.ts"
import { Secrets } from "./store/secrets/Secrets.ts"
import { TunnelStore } from "./store/TunnelStore.ts"
import { DoctorStore } from "./store/DoctorStore.ts"
import { TunnelReports } from "./services/TunnelReports.ts"
import { Tunnels } from "./services/Tunnels.ts"
import { Doctor } from "./doctor/Doctor.ts"
import { MasterKeys } from "./services/MasterKeys.ts"
import { Effect, Layer } from "effect"

/** Rows are the truth: one database, one store for each table. */
const store = Layer.mergeAll(
  AgentStore.layer,
  GatewayStore.layer,
  TunnelStore.layer,
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
  MasterKeyStore.layer
).pipe(
  Layer.provideMerge(Secrets.layer),
  Layer.provideMerge(Database.layer),
  Layer.provideMerge(Directory.layer)
)

/** What is committed comes in by its revision, is applied by one writer, and goes out to each audience. */
const feed = Network.layer.pipe(
  Layer.provideMerge(ChangeBus.layer),
  Layer.provideMerge(ChangeNotifier.layer),
  Layer.provideMerge(Events.layer)
)

/** What operators ask for: services that write rows, and know no transport. */
export const services = Layer.mergeAll(
  Agents.layer,
  Gateways.layer,
  Tunnels.layer,
  TunnelReports.layer,
  Certificates.layer,
  ApiKeys.layer
)

/** How many clients are connected to this node. */
const connected = Effect.flatMap(ClientRegistry, ({ newest }) => Effect.map(newest, ({ length }) => length))

/** Who is there: membership, liveness, and what the database is told of it. */
export const clients = Layer.mergeAll(
  Authenticator.layer,
  Presence.layer,
  Deliveries.layer,
  Heartbeat.layer,
  EventRelay.layer,
  Revocations.layer
).pipe(
  Layer.provideMerge(NodeLease.layer(connected)),
  Layer.provideMerge(ClientRegistry.layer)
)

/** What has to be done once over all processes, whichever of them does it. */
const chores = Layer.mergeAll(Compaction.layer, Expiry.layer, MasterKeys.layer)

const core = Layer.merge(clients, chores).pipe(
  Layer.provideMerge(services),
  Layer.provideMerge(feed),
  Layer.provideMerge(store)
)

const sockets = Listener.layer.pipe(Layer.provide(Connections.layer))

/** Agents and gateways only: for an application that has an API of its own. */
export const layerOfSockets = sockets.pipe(Layer.provide(Ingress.layer), Layer.provideMerge(core))

const operators = HttpServer.layer.pipe(Layer.provide([AdminTokens.layer, Doctor.layer]))

/** Both edges: sockets for agents and gateways, HTTP for operators. They are closed before anything below them. */
export const layer = Layer.mergeAll(sockets, operators).pipe(
  Layer.provide(Ingress.layer),
  Layer.provideMerge(core)
)
