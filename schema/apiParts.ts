/** What the groups of the API have in common: who is let in, what is judged, how answers look. */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiMiddleware, HttpApiSchema, HttpApiSecurity, OpenApi } from "effect/http-api"
import { Deleted, delivery } from "./delivery.ts"
import * as Problem from "./problems.ts"
import * as Resource from "./resources.ts"

/** Lets in who has the admin token. It comes before anything about the request is judged. */
export class Authorization extends HttpApiMiddleware.Service<Authorization>()("control/http/Authorization", {
  security: { bearer: HttpApiSecurity.bearer.pipe(HttpApiSecurity.annotate(OpenApi.Description, "The admin token.")) },
  error: Problem.Unauthorized
}) {}

/** Refuses what does not fit the schemas, each fault with its path; unknown fields and parameters are faults too. */
export class Validation extends HttpApiMiddleware.Service<Validation>()("control/http/Validation", {
  error: Problem.InvalidRequest
}) {}

export const listQuery = { limit: Schema.optionalKey(Resource.Limit), cursor: Schema.optionalKey(Resource.Cursor) }

export const created = <S extends Schema.Top>(schema: S) => schema.pipe(HttpApiSchema.status(201))
/** What a change answers, with how far it has come if that was asked for. */
export const changed = <Fields extends Schema.Struct.Fields>(resource: Schema.Struct<Fields>, identifier: string) =>
  Schema.Struct({ ...resource.fields, ...delivery }).annotate({ identifier })
/** Nothing, or how far it has come: in this order, since nothing can be made of anything. */
export const deleted = [Deleted, HttpApiSchema.NoContent] as const

export const says = (summary: string, description?: string) =>
  OpenApi.annotations(description === undefined ? { summary } : { summary, description })

export const list = <const Path extends `/${string}`, S extends Schema.Top>(path: Path, item: S, summary: string) =>
  HttpApiEndpoint.get("list", path, {
    query: listQuery,
    success: Resource.pageOf(item),
    error: Problem.StoreUnavailable
  }).annotateMerge(says(summary, "In the order of their creation."))
