/** Admin tokens of the HTTP API: roles, lifetimes and the caller's identity. */
import { Context, type Effect, Schema } from "effect"
import { storedText } from "./sharedFields.ts"
import { KeyId, Name, Timestamp } from "./ids.ts"

/** Roles from the weakest to the strongest. Each role includes the rights of the roles before it. */
export const roles = ["read", "operate", "admin"] as const

export const Role = Schema.Literals(roles).annotate({
  identifier: "Role",
  description:
    "`read`: read everything. `operate`: also change agents, gateways, tunnels, certificates and API keys, and thus receive every private key through a new gateway. `admin`: also manage admin tokens, back up the data and change the master key."
})
export type Role = typeof Role.Type

/** Whether a caller with the role `held` may do what requires the role `needed`. */
export const roleIncludes = (held: Role, needed: Role): boolean => roles.indexOf(held) >= roles.indexOf(needed)

const expiresAt = Schema.NullOr(Timestamp).annotate({ description: "Time of expiry; null if the token never expires." })

export const Token = Schema.Struct({
  id: KeyId,
  name: storedText("Display name."),
  role: Role,
  expiresAt,
  createdAt: Timestamp.annotate({ description: "Time of creation." }),
  createdBy: Schema.String.annotate({
    description: "Creator: an `actor` as in the audit log, for example `token:5f0c`."
  }),
  lastUsedAt: Schema.NullOr(Timestamp).annotate({
    description: "Time of the last use, to the minute; null if the token was never used."
  })
}).annotate({ identifier: "Token", description: "An admin token without its secret. Expired tokens are listed too." })
export type Token = typeof Token.Type

/** Ten years. A token that must live longer is created without an expiry. */
const maxLifetimeSeconds = 315_360_000

export const NewToken = Schema.Struct({
  name: Name,
  role: Role,
  expiresIn: Schema.optionalKey(
    Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: maxLifetimeSeconds })).annotate({ examples: [7_776_000] })
  )
    .annotate({
      description:
        "Lifetime in seconds, for example 86400. Without this and without `expiresAt`, the token never expires."
    }),
  expiresAt: Schema.optionalKey(Timestamp).annotate({ description: "Time of expiry." })
}).check(
  Schema.makeFilter(({ expiresAt, expiresIn }) =>
    expiresAt === undefined || expiresIn === undefined || "expected either `expiresIn` or `expiresAt`"
  )
).annotate({ identifier: "NewToken" })
export type NewToken = typeof NewToken.Type

export const CreatedToken = Schema.Struct({
  ...Token.fields,
  token: Schema.String.annotate({
    description: "The secret. The API returns it only once, because Control stores only its hash."
  })
}).annotate({ identifier: "CreatedToken" })

export const Self = Schema.Struct({
  id: Schema.NullOr(KeyId).annotate({ description: "Null for the token that the server was started with." }),
  name: Schema.String.annotate({ description: "Display name." }),
  role: Role,
  expiresAt
}).annotate({ identifier: "Self", description: "The admin token of this request." })
export type Self = typeof Self.Type

/** Identity of the caller, provided to the handlers of every endpoint that requires a token. */
export class Operator extends Context.Service<Operator, {
  readonly self: Self
  /** Completes when the token has expired or was revoked, so that open streams can end. */
  readonly invalidated: Effect.Effect<void>
}>()("control/http/Operator") {}
