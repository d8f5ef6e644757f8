/** The operators' port: the API, its documents, and what supervisors ask. */
import { NodeHttpServer } from "@effect/platform-node"
import { Ingress } from "#ingress/Ingress.ts"
import { Api } from "#schema/api.ts"
import { PortUnavailable, Settings } from "#server/Settings.ts"
import { Effect, Layer } from "effect"
import { HttpRouter, type HttpServerError } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import * as Agents from "./Agents.ts"
import * as Answers from "./responsePolicy.ts"
import * as Audit from "./Audit.ts"
import * as Authorization from "./Authorization.ts"
import * as Backup from "./Backup.ts"
import * as Certificates from "./Certificates.ts"
import * as Clients from "./Clients.ts"
import * as Docs from "./Docs.ts"
import * as Doctor from "./Doctor.ts"
import * as Events from "./Events.ts"
import * as Gateways from "./Gateways.ts"
import * as Health from "./Health.ts"
import * as Keys from "./ApiKeys.ts"
import * as MasterKey from "./MasterKeys.ts"
import * as Network from "./Network.ts"
import * as Nodes from "./Nodes.ts"
import * as Tokens from "./AdminTokens.ts"
import * as Tunnels from "./Tunnels.ts"
import * as Validation from "./Validation.ts"

const handlers = Layer.mergeAll(
  Agents.layer,
  Audit.layer,
  Backup.layer,
  Certificates.layer,
  Clients.layer,
  Doctor.layer,
  Events.layer,
  Gateways.layer,
  Health.layer,
  Keys.layer,
  MasterKey.layer,
  Network.layer,
  Nodes.layer,
  Tokens.layer,
  Tunnels.layer
).pipe(Layer.provide(Layer.mergeAll(Authorization.layer, Validation.layer)))

const routes = Layer.mergeAll(HttpApiBuilder.layer(Api).pipe(Layer.provide(handlers)), Docs.layer, Answers.layer)

/** How long answers that are being given may take when the server stops. */
const shutdownPatience = "2 seconds"

const requestBounds = { requestTimeout: 30_000, maxHeaderSize: 16_384 }

/** The longest host name, each of its characters percent-encoded. */
const routerConfig = { maxParamLength: 3 * 253 }

/** Listens when built; gives the `HttpServer`, whose `address` has the port in fact. */
export const layer = Layer.unwrap(Effect.gen(function*() {
  const { apiHost: host, apiPort: port } = yield* Settings
  const edge = yield* Ingress
  const server = edge.create("api", requestBounds)
  const kept = Layer.effectDiscard(edge.keep("api", server))
  const listening = Layer.effectContext(
    Layer.build(
      NodeHttpServer.layer(() => server, { host, port, gracefulShutdownTimeout: shutdownPatience })
    ).pipe(
      Effect.mapError((error) => new PortUnavailable({ edge: "api", host, port, reason: reasonOf(error) }))
    )
  )
  return Events.endWithServer.pipe(
    Layer.provideMerge(HttpRouter.serve(routes, { disableLogger: true, disableListenLog: true, routerConfig })),
    Layer.provideMerge(listening),
    Layer.provide(kept)
  )
}))

function reasonOf({ cause }: HttpServerError.ServeError): string {
  if (!(cause instanceof Error)) return String(cause)
  return "code" in cause && typeof cause.code === "string" ? cause.code : cause.message
}
