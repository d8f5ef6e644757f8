/** Shared parts of the HTTP API: authorization, validation, responses and endpoint descriptions. */
import { Context, Schema } from "effect"
import { HttpApiEndpoint, HttpApiMiddleware, HttpApiSchema, HttpApiSecurity, OpenApi } from "effect/http-api"
import { Deleted, deliveryField } from "./delivery.ts"
import * as Problem from "./problems.ts"
import * as Pagination from "./pagination.ts"
import type { Operator, Role } from "./adminTokens.ts"

/** Role that an endpoint requires, set by `describeEndpoint`. An endpoint without this annotation requires `admin`. */
export class RequiredRole extends Context.Service<RequiredRole, Role | "anyone">()("control/http/RequiredRole") {}

/** Lower case, as in IANA's registry, because some readers of OpenAPI do not recognize the scheme `Bearer`. */
const adminToken = HttpApiSecurity.http({ scheme: "bearer" }).pipe(
  HttpApiSecurity.annotate(OpenApi.Description, "An admin token.")
)

/** Requires an admin token with the role of the endpoint. Runs before the request is validated. */
export class Authorization extends HttpApiMiddleware.Service<Authorization, { provides: Operator }>()(
  "control/http/Authorization",
  {
    security: { bearer: adminToken },
    error: [
      Problem.Unauthorized,
      Problem.RoleTooLow,
      Problem.TooManyFailures,
      Problem.TooManyRequests,
      Problem.StoreUnavailable
    ]
  }
) {}

/** Rejects requests that do not match the schemas, with the path of each error. Unknown fields and parameters are errors. */
export class Validation extends HttpApiMiddleware.Service<Validation>()("control/http/Validation", {
  error: Problem.InvalidRequest
}) {}

/** Query parameters of every list. */
export const listQuery = {
  limit: Schema.optionalKey(Pagination.PageLimit),
  cursor: Schema.optionalKey(Pagination.PageCursorFromString)
}

/** Response with status 201. */
export const createdResponse = <S extends Schema.Top>(schema: S) => schema.pipe(HttpApiSchema.status(201))
/** Response to a change: the resource, and `delivery` if the request waited. */
export const changeResponse = <Fields extends Schema.Struct.Fields>(
  resource: Schema.Struct<Fields>,
  identifier: string
) => Schema.Struct({ ...resource.fields, ...deliveryField }).annotate({ identifier })
/** Response to a deletion. `Deleted` comes first because any value can be encoded as `NoContent`. */
export const deletedResponse = [Deleted, HttpApiSchema.NoContent] as const

/** OpenAPI texts and required role of an endpoint. `anyone` marks an endpoint that requires no token. */
export const describeEndpoint = (role: Role | "anyone", summary: string, description?: string) => {
  const requirement = role === "anyone" ? undefined : `Requires the role \`${role}\`.`
  const texts = [description, requirement].filter((text) => text !== undefined)
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

/** `GET path`: a page of the items that pass the filters, oldest first, for the role `read`. */
export const listEndpoint = <
  const Path extends `/${string}`,
  S extends Schema.Top,
  Filters extends Schema.Struct.Fields = {}
>(
  path: Path,
  item: S,
  summary: string,
  filters: Filters = {} as Filters
) =>
  HttpApiEndpoint.get("list", path, {
    query: { ...listQuery, ...filters },
    success: Pagination.pageOf(item),
    error: Problem.StoreUnavailable
  }).annotateMerge(describeEndpoint("read", summary, "Oldest first."))
