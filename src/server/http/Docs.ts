/** Serves /openapi.json, /asyncapi.json and the page /docs, which loads nothing from other hosts. */
import { Api } from "#schema/api.ts"
import { asyncApi } from "#schema/asyncapi.ts"
import { openApi } from "#schema/openapi.ts"
import { Layer } from "effect"
import { HttpRouter, HttpServerResponse } from "effect/http"
import { HttpApiScalar } from "effect/http-api"

export const layer = Layer.mergeAll(
  HttpRouter.add("GET", "/openapi.json", HttpServerResponse.jsonUnsafe(openApi())),
  HttpRouter.add("GET", "/asyncapi.json", HttpServerResponse.jsonUnsafe(asyncApi())),
  HttpApiScalar.layer(Api, {
    path: "/docs",
    scalar: { withDefaultFonts: false, authentication: { preferredSecurityScheme: "bearer" } }
  })
)
