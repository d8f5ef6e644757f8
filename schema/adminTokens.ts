/** Admin tokens: who may do what, and for how long. */
import { Context, type Effect, Schema } from "effect"
import { stored } from "./sharedFields.ts"
import { KeyId, Name, Timestamp } from "./ids.ts"

export const roles = ["read", "operate", "admin"] as const

export const Role = Schema.Literals(roles).annotate({
  identifier: "Role",
  description:
    "`read`: everything that is shown. `operate`: also agents, gateways, tunnels, certificates and API keys. `admin`: also admin tokens."
})
export type Role = typeof Role.Type

/** Whether one role includes another. */
export const includes = (held: Role, needed: Role): boolean => roles.indexOf(held) >= roles.indexOf(needed)

const expiresAt = Schema.NullOr(Timestamp).annotate({ description: "When it ends; null if it never does." })

export const Token = Schema.Struct({
  id: KeyId,
  name: stored("What it is called."),
  role: Role,
  expiresAt,
  createdAt: Timestamp.annotate({ description: "When it was created." }),
  createdBy: Schema.String.annotate({ description: "Who created it: an `actor`, as in the audit." }),
  lastUsedAt: Schema.NullOr(Timestamp).annotate({
    description: "When it was last used, to within a minute; null if it never was."
  })
}).annotate({ identifier: "Token", description: "An admin token, without its secret. Expired ones are shown as well." })
export type Token = typeof Token.Type

/** Ten years, in seconds: who wants more wants for ever. */
const longestLife = 315_360_000

export const NewToken = Schema.Struct({
  name: Name,
  role: Role,
  expiresIn: Schema.optionalKey(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: longestLife }))).annotate({
    description: "For how many seconds it lasts. For ever unless this or `expiresAt` is given."
  }),
  expiresAt: Schema.optionalKey(Timestamp).annotate({ description: "Until when it lasts." })
}).check(
  Schema.makeFilter(({ expiresAt, expiresIn }) =>
    expiresAt === undefined || expiresIn === undefined || "expected either `expiresIn` or `expiresAt`"
  )
).annotate({ identifier: "NewToken" })
export type NewToken = typeof NewToken.Type

export const CreatedToken = Schema.Struct({
  ...Token.fields,
  token: Schema.String.annotate({ description: "The secret. It is shown this once: only its hash is kept." })
}).annotate({ identifier: "CreatedToken" })

export const Self = Schema.Struct({
  id: Schema.NullOr(KeyId).annotate({ description: "Null for the token that the server was started with." }),
  name: Schema.String.annotate({ description: "What it is called." }),
  role: Role,
  expiresAt
}).annotate({ identifier: "Self", description: "The token that was sent." })
export type Self = typeof Self.Type

/** Who asks: known to the handlers of every endpoint that a token is asked for. */
export class Operator extends Context.Service<Operator, {
  readonly self: Self
  /** Ends when the token has ended, so that what is still being answered can end too. */
  readonly ended: Effect.Effect<void>
}>()("control/http/Operator") {}
