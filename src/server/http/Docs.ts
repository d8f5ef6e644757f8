/** Serves the index /, /openapi.json, /asyncapi.json and the page /docs, which loads nothing from other hosts. */
import { asyncApi } from "#schema/asyncapi.ts"
import { openApi } from "#schema/openapi.ts"
import { Effect, Layer } from "effect"
import { HttpRouter } from "effect/http"
import { cacheable } from "./cacheable.ts"
import { docsPage, startScript, swaggerUi } from "./docsPage.ts"

/** Built at the first request, because most processes are never asked for them. */
const document = (path: `/${string}`, contentType: string, text: Effect.Effect<string>) =>
  HttpRouter.use((router) =>
    Effect.flatMap(
      Effect.cached(Effect.map(text, (body) => cacheable(body, contentType))),
      (handler) => router.add("GET", path, Effect.flatten(handler))
    )
  )

const json = (value: () => unknown) => Effect.sync(() => JSON.stringify(value()))
const javascript = "text/javascript; charset=utf-8"

/** The answer to a person or program that has only the address of this port. */
const index = {
  name: "Control",
  about:
    "HTTP API for operators. Agents and gateways connect to the WebSocket port (CONTROL_WS_PORT, 3001 by default).",
  documentation: "/docs",
  openapi: "/openapi.json",
  asyncapi: "/asyncapi.json",
  api: "/api/me with the header `Authorization: Bearer TOKEN` shows what an admin token may do",
  health: "/readyz",
  metrics: "/metrics"
}

export const layer = Layer.mergeAll(
  document("/", "application/json", json(() => index)),
  document("/openapi.json", "application/json", json(openApi)),
  document("/asyncapi.json", "application/json", json(asyncApi)),
  document("/docs", "text/html; charset=utf-8", Effect.sync(docsPage)),
  document("/docs/start.js", javascript, Effect.succeed(startScript)),
  document("/docs/swagger-ui.js", javascript, Effect.map(swaggerUi, (ui) => ui.javascript)),
  document("/docs/swagger-ui.css", "text/css; charset=utf-8", Effect.map(swaggerUi, (ui) => ui.css))
)
