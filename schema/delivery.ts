/** Waiting for the delivery of a change: query parameters and response fields. */
import { Schema, SchemaGetter } from "effect"
import { GatewayId, Revision, Timestamp } from "./ids.ts"
import { clientFields, nackFields } from "./resources.ts"
import { count } from "./sharedFields.ts"

/** Largest accepted `timeout`. */
export const maxWaitMillis = 60_000
/** `timeout` if the request has none. */
export const defaultWaitMillis = 5_000

const waitPattern = /^(\d{1,5}(?:\.\d{1,3})?) ?(millis?|ms|seconds?|s|minutes?|m)$/u

const millisOf = (count: number, unit: string): number => {
  if (unit === "ms" || unit.startsWith("mil")) return count
  return unit.startsWith("s") ? count * 1_000 : count * 60_000
}

/** `5s`, `5 seconds` or `500 millis` → milliseconds. */
const WaitTimeout = Schema.String.check(
  Schema.isPattern(waitPattern, { message: "expected a time such as 5s or 5 seconds" })
).annotate({
  description: "Maximum wait, for example `5s` or `500 millis`. Default: 5 seconds. At most 60 seconds."
})
  .pipe(
    Schema.decodeTo(
      Schema.Finite.check(
        Schema.isBetween({ minimum: 0, maximum: maxWaitMillis }, { message: "expected 60 seconds or less" })
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

/** Query parameters of every request that makes a change. */
export const waitQuery = {
  wait: Schema.optionalKey(Schema.Literals(["sent", "applied"])).annotate({
    description:
      "Wait until the change was sent to (`sent`) or acknowledged by (`applied`) every connected client that it concerns. The response then has `delivery`, also after `timeout`."
  }),
  timeout: Schema.optionalKey(WaitTimeout)
}

/** Query parameters of requests that create or change a tunnel. */
export const tunnelWaitQuery = {
  ...waitQuery,
  wait: Schema.optionalKey(Schema.Literals(["sent", "applied", "serving"])).annotate({
    description:
      "Wait until the change was sent to (`sent`) or acknowledged by (`applied`) every connected client that it concerns, or until in addition every online gateway that serves the tunnel reports `serving`. The response then has `delivery`, also after `timeout`."
  })
}

export interface WaitQuery {
  readonly wait?: "sent" | "applied" | "serving"
  /** Milliseconds. */
  readonly timeout?: number
}

export const Delivery = Schema.Struct({
  revision: Revision.annotate({ description: "Revision of the change." }),
  sent: count("Number of connected clients that were sent the change."),
  applied: count("Number of connected clients that have acknowledged the change."),
  pending: Schema.Array(Schema.Struct({
    ...clientFields,
    revision: Revision.annotate({ description: "Position of this client." })
  })).annotate({
    description: "Clients that have not reached the revision. Clients of the plain level never acknowledge one."
  }),
  nacks: Schema.Array(Schema.Struct({ ...clientFields, ...nackFields })).annotate({
    description: "Clients that rejected the change."
  }),
  serving: Schema.optionalKey(Schema.Array(Schema.Struct({
    gatewayId: GatewayId,
    gatewayName: Schema.String.annotate({ description: "Display name of the gateway.", examples: ["edge-1"] }),
    status: Schema.NullOr(Schema.String).annotate({
      description: "Report of the gateway about the changed tunnel; null if it has not reported."
    }),
    detail: Schema.NullOr(Schema.String).annotate({ description: "Reason; null if the gateway gave none." }),
    since: Schema.NullOr(Timestamp).annotate({ description: "Time since which the gateway reports this state." })
  }))).annotate({
    description:
      "Online gateways at `control.v1` that serve the tunnel, with `wait=serving`. A disabled tunnel has none."
  }),
  offline: Schema.Array(Schema.Struct(clientFields)).annotate({
    description:
      "Clients that the change concerns and that are offline, at most 1000. They receive the change on connecting."
  })
}).annotate({
  identifier: "Delivery",
  description: "Delivery state of a change. The state of clients on other nodes may be up to 5 seconds old."
})
export type Delivery = typeof Delivery.Type

/** Field that a change's response has in addition to the resource if the request waited. */
export const deliveryField = {
  delivery: Schema.optionalKey(Schema.NullOr(Delivery)).annotate({
    description: "Present if `wait` was given. Null if the change is stored but its delivery state is unknown."
  })
}

/** Response to a deletion that waited for its delivery. */
export const Deleted = Schema.Struct({ delivery: Schema.NullOr(Delivery) }).annotate({ identifier: "Deleted" })
