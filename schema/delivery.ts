/** Waiting until a change has arrived: what a request may ask for, and what it is told. */
import { Schema, SchemaGetter } from "effect"
import { Revision } from "./ids.ts"
import { clientFields, nackFields } from "./resources.ts"

export const longestWaitMillis = 60_000
export const usualWaitMillis = 5_000

const waitPattern = /^(\d{1,5}(?:\.\d{1,3})?) ?(millis?|ms|seconds?|s|minutes?|m)$/u

const millisOf = (count: number, unit: string): number => {
  if (unit === "ms" || unit.startsWith("mil")) return count
  return unit.startsWith("s") ? count * 1_000 : count * 60_000
}

/** A time in words → milliseconds. */
const WaitTimeout = Schema.String.check(
  Schema.isPattern(waitPattern, { message: "expected a time such as 5s or 5 seconds" })
).annotate({
  description: "At most so long, such as `5s` or `500 millis`: 60 seconds or less; 5 seconds unless given."
})
  .pipe(
    Schema.decodeTo(
      Schema.Finite.check(
        Schema.isBetween({ minimum: 0, maximum: longestWaitMillis }, { message: "expected 60 seconds or less" })
      ),
      {
        decode: SchemaGetter.transform((text: string) => {
          const [, count, unit = ""] = waitPattern.exec(text) ?? []
          return millisOf(Number(count), unit)
        }),
        encode: SchemaGetter.transform((millis: number) => `${millis} millis`)
      }
    )
  )

/** The parameters of every change. */
export const waitQuery = {
  wait: Schema.optionalKey(Schema.Literals(["sent", "applied"])).annotate({
    description:
      "Answer only when every connected client that the change concerns was sent it, or says that it is in force; or when the time is over. The answer then has `delivery`."
  }),
  timeout: Schema.optionalKey(WaitTimeout)
}

export interface WaitQuery {
  readonly wait?: "sent" | "applied"
  /** Milliseconds. */
  readonly timeout?: number
}

export const Delivery = Schema.Struct({
  revision: Revision.annotate({ description: "The change that was waited for." }),
  sent: Schema.Int.annotate({ description: "How many connected clients were sent it." }),
  applied: Schema.Int.annotate({ description: "How many of them say that it is in force." }),
  pending: Schema.Array(Schema.Struct({
    ...clientFields,
    revision: Revision.annotate({ description: "How far this client has come." })
  })).annotate({
    description: "Who has not reached it; clients of the plain level among them, which never say what is in force."
  }),
  nacks: Schema.Array(Schema.Struct({ ...clientFields, ...nackFields })).annotate({
    description: "Who has refused it."
  }),
  offline: Schema.Array(Schema.Struct(clientFields)).annotate({
    description: "Whom the change concerns and who is not connected: they get it when they come. The first thousand."
  })
}).annotate({
  identifier: "Delivery",
  description: "How far a change has come. What clients of other nodes have reached is known up to five seconds later."
})
export type Delivery = typeof Delivery.Type

/** What a change answers beside its resource when it was asked to wait. */
export const delivery = {
  delivery: Schema.optionalKey(Schema.NullOr(Delivery)).annotate({
    description:
      "There if `wait` was given; null when the change is stored but it could not be told how far it has come."
  })
}

/** The answer to a deletion that was asked to wait. */
export const Deleted = Schema.Struct({ delivery: Schema.NullOr(Delivery) }).annotate({ identifier: "Deleted" })
