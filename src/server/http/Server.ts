/** HTTP server of the API port: API, documentation, health checks and metrics. */
import { NodeHttpServer } from "@effect/platform-node"
import { Ingress } from "#ingress/Ingress.ts"
import { Api } from "#schema/api.ts"
import { PortUnavailable } from "#ingress/PortUnavailable.ts"
import { listenOptions, Settings } from "#server/Settings.ts"
import { Intervals } from "#time/Intervals.ts"
import { Effect, Layer } from "effect"
import { HttpRouter, type HttpServerError } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import * as Agents from "./Agents.ts"
import * as ResponsePolicy from "./responsePolicy.ts"
import * as Audit from "./Audit.ts"
import * as Authorization from "./Authorization.ts"
import * as Backup from "./Backup.ts"
import * as Certificates from "./Certificates.ts"
import * as ConnectedClients from "./ConnectedClients.ts"
import * as Docs from "./Docs.ts"
import * as Doctor from "./Doctor.ts"
import * as Events from "./Events.ts"
import * as Gateways from "./Gateways.ts"
import * as Health from "./Health.ts"
import * as ApiKeys from "./ApiKeys.ts"
import * as LocalSocket from "./localSocket.ts"
import * as MasterKeys from "./MasterKeys.ts"
import * as Network from "./Network.ts"
import * as Nodes from "./Nodes.ts"
import * as AdminTokens from "./AdminTokens.ts"
import * as Tunnels from "./Tunnels.ts"
import * as Validation from "./Validation.ts"

const handlers = Layer.mergeAll(
  Agents.layer,
  Audit.layer,
  Backup.layer,
  Certificates.layer,
  ConnectedClients.layer,
  Doctor.layer,
  Events.layer,
  Gateways.layer,
  Health.layer,
  ApiKeys.layer,
  MasterKeys.layer,
  Network.layer,
  Nodes.layer,
  AdminTokens.layer,
  Tunnels.layer
).pipe(Layer.provide(Layer.mergeAll(Authorization.layer, Validation.layer)))

const routes = Layer.mergeAll(HttpApiBuilder.layer(Api).pipe(Layer.provide(handlers)), Docs.layer, ResponsePolicy.layer)

/** `requestTimeout` in milliseconds, `maxHeaderSize` in bytes. */
const requestLimits = { requestTimeout: 30_000, maxHeaderSize: 16_384 }

/**
 * The router matches exactly one spelling of each path, because a proxy's path rules see the path as it was sent. A parameter
 * fits the longest host name (253 characters) with every character percent-encoded.
 */
const routerConfig = {
  maxParamLength: 3 * 253,
  caseSensitive: true,
  ignoreTrailingSlash: false,
  ignoreDuplicateSlashes: false
}

/** Listens when built. Provides the `HttpServer`, whose `address` contains the actual port. */
export const layer = Layer.unwrap(Effect.gen(function*() {
  const { apiHost: host, apiPort: port } = yield* Settings
  const ingress = yield* Ingress
  const { apiShutdownTimeout } = yield* Intervals
  const server = ingress.create("api", requestLimits)
  const supervision = Layer.effectDiscard(ingress.supervise("api", server))
  const listening = Layer.effectContext(
    // Registered before the server, so that it runs after the server has stopped.
    Effect.addFinalizer(() => Effect.logDebug("shutdown: the API has answered its last request")).pipe(
      Effect.andThen(Layer.build(
        NodeHttpServer.layer(() => server, {
          ...listenOptions(host, port),
          gracefulShutdownTimeout: apiShutdownTimeout
        })
      )),
      Effect.mapError((error) => new PortUnavailable({ portName: "api", host, port, reason: reasonOf(error) }))
    )
  )
  return Events.closeOnShutdown.pipe(
    Layer.provideMerge(LocalSocket.layer(server, requestLimits)),
    Layer.provideMerge(HttpRouter.serve(routes, { disableLogger: true, disableListenLog: true, routerConfig })),
    Layer.provideMerge(listening),
    Layer.provide(supervision)
  )
}))

function reasonOf({ cause }: HttpServerError.ServeError): string {
  if (!(cause instanceof Error)) return String(cause)
  return "code" in cause && typeof cause.code === "string" ? cause.code : cause.message
}
