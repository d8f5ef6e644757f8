/** Renders the HTTP API as an OpenAPI 3.1 document. Pure. */
import { OpenApi } from "effect/http-api"
import { Api } from "./api.ts"
import { addExamples } from "./openapiExamples.ts"

/** Small domain types are inlined, so that each use shows its own description. All other named schemas go to `components`. */
const inlined: ReadonlySet<string> = new Set([
  "Timestamp",
  "Name",
  "Port",
  "IpAddress",
  "KeyId",
  "Revision",
  "EntityType"
])

const options: OpenApi.FromApiOptions = {
  referencePolicy: ({ identifier }) => identifier === undefined || inlined.has(identifier) ? undefined : identifier
}

export const openApi = () => addExamples(OpenApi.fromApi(Api, options))
