/** What the groups of the API have in common: who is let in, what is judged, how answers look. */
import { Context, Schema } from "effect"
import { HttpApiEndpoint, HttpApiMiddleware, HttpApiSchema, HttpApiSecurity, OpenApi } from "effect/http-api"
import { Deleted, delivery } from "./delivery.ts"
import * as Problem from "./problems.ts"
import * as Resource from "./resources.ts"
import type { Operator, Role } from "./adminTokens.ts"

/** Which role an endpoint needs: said at each, by `says`. One that says nothing needs `admin`. */
export class RequiredRole extends Context.Service<RequiredRole, Role | "anyone">()("control/http/RequiredRole") {}

/** In lower case, as IANA's registry has it: some readers of OpenAPI take `Bearer` for a scheme that they do not know. */
const adminToken = HttpApiSecurity.http({ scheme: "bearer" }).pipe(
  HttpApiSecurity.annotate(OpenApi.Description, "An admin token.")
)

/** Lets in who has an admin token of the role that is needed. It comes before anything about the request is judged. */
export class Authorization extends HttpApiMiddleware.Service<Authorization, { provides: Operator }>()(
  "control/http/Authorization",
  {
    security: { bearer: adminToken },
    error: [Problem.Unauthorized, Problem.RoleTooLow, Problem.TooManyFailures, Problem.StoreUnavailable]
  }
) {}

/** Refuses what does not fit the schemas, each fault with its path; unknown fields and parameters are faults too. */
export class Validation extends HttpApiMiddleware.Service<Validation>()("control/http/Validation", {
  error: Problem.InvalidRequest
}) {}

/** The ids of rows in paths: also of one that cannot be read, so that it can be deleted. PostgreSQL counts a pair of halves as one. */
const idInPath = Schema.String.check(Schema.isBetweenLength(1, 256), Resource.withoutNul)
export const AgentIdInPath = idInPath.pipe(Schema.brand("AgentId"))
export const GatewayIdInPath = idInPath.pipe(Schema.brand("GatewayId"))
export const TunnelIdInPath = idInPath.pipe(Schema.brand("TunnelId"))

export const listQuery = { limit: Schema.optionalKey(Resource.Limit), cursor: Schema.optionalKey(Resource.Cursor) }

export const created = <S extends Schema.Top>(schema: S) => schema.pipe(HttpApiSchema.status(201))
/** What a change answers, with how far it has come if that was asked for. */
export const changed = <Fields extends Schema.Struct.Fields>(resource: Schema.Struct<Fields>, identifier: string) =>
  Schema.Struct({ ...resource.fields, ...delivery }).annotate({ identifier })
/** Nothing, or how far it has come: in this order, since nothing can be made of anything. */
export const deleted = [Deleted, HttpApiSchema.NoContent] as const

/** What it does, and which role it needs: `anyone` is for what no token is asked for. */
export const says = (role: Role | "anyone", summary: string, description?: string) => {
  const needs = role === "anyone" ? undefined : `Needs the role \`${role}\`.`
  const texts = [description, needs].filter((text) => text !== undefined)
  return Context.add(
    OpenApi.annotations({
      summary,
      ...(texts.length === 0 ? {} : { description: texts.join(" ") }),
      ...(role === "anyone" ? {} : { override: { "x-required-role": role } })
    }),
    RequiredRole,
    role
  )
}

export const list = <const Path extends `/${string}`, S extends Schema.Top>(path: Path, item: S, summary: string) =>
  HttpApiEndpoint.get("list", path, {
    query: listQuery,
    success: Resource.pageOf(item),
    error: Problem.StoreUnavailable
  }).annotateMerge(says("read", summary, "In the order of their creation."))
