/** /openapi.json and /docs: what the API is, for programs and for people; nothing is fetched from elsewhere. */
import { Api } from "#schema/api.ts"
import { openApi } from "#schema/openapi.ts"
import { Layer } from "effect"
import { HttpRouter, HttpServerResponse } from "effect/http"
import { HttpApiScalar } from "effect/http-api"

export const layer = Layer.mergeAll(
  HttpRouter.add("GET", "/openapi.json", HttpServerResponse.jsonUnsafe(openApi())),
  HttpApiScalar.layer(Api, { path: "/docs", scalar: { withDefaultFonts: false } })
)
