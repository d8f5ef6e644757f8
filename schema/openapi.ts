/** The HTTP API as an OpenAPI 3.1 document, made from its schemas. Pure. */
import { OpenApi } from "effect/http-api"
import { Api } from "./api.ts"

/** The small words of the domain are written out where they are used, with what they mean there; the rest is in components. */
const writtenOut: ReadonlySet<string> = new Set([
  "Timestamp",
  "Name",
  "Port",
  "IpAddress",
  "KeyId",
  "Revision",
  "EntityType"
])

const options: OpenApi.FromApiOptions = {
  referencePolicy: ({ identifier }) => identifier === undefined || writtenOut.has(identifier) ? undefined : identifier
}

export const openApi = () => OpenApi.fromApi(Api, options)
