/** Performs the actions of a session, the only place with their side effects. */
import { Certificates } from "#services/Certificates.ts"
import type { Client } from "#clients/ClientRegistry.ts"
import { Deliveries } from "#clients/Deliveries.ts"
import { makeRefusals, type Refusal } from "#events/refusals.ts"
import type { CloseReason } from "#schema/codes.ts"
import type { Action, Event } from "#session/Action.ts"
import { formatClientRef } from "#schema/ids.ts"
import { actingAs } from "#store/AuditActor.ts"
import { TunnelReports } from "#services/TunnelReports.ts"
import { DateTime, Effect } from "effect"
import type { Connection } from "./ConnectionState.ts"
import { makeForwarding } from "./forward.ts"
import { makeLogin } from "./login.ts"
import type { Message } from "./messageFrame.ts"

/** What the actions of one event leave to their connection. */
export interface Outcome {
  /** Messages to write, in this order and in one write. */
  readonly messages: ReadonlyArray<Message>
  /** Event to handle next. At most one action of an event is answered by another event. */
  readonly next: Event | undefined
  /** Reason to close the socket after the messages. */
  readonly close: CloseReason | undefined
}

export const initialOutcome: Outcome = { messages: [], next: undefined, close: undefined }

/** The client whose connection ends, by name if it has authenticated. */
function floodOf({ member, upgrade }: Connection): Refusal {
  const sender = member === undefined ? "a client that has not authenticated" : formatClientRef(member.client.ref)
  return {
    kind: "connection",
    reason: "too_many_messages",
    type: member?.client.ref.type ?? upgrade.type ?? "unknown",
    text: `of ${sender} at ${upgrade.address}: it did not slow down after CONTROL_MAX_MESSAGES_PER_SECOND`
  }
}

export const makePerform = Effect.gen(function*() {
  const reports = yield* TunnelReports
  const deliveries = yield* Deliveries
  const refuse = makeRefusals()
  const storeCertificate = makeStoreCertificate(yield* Certificates, refuse)
  const { close, login } = yield* makeLogin
  const forward = yield* makeForwarding

  /** Adds one action to the outcome of the actions before it, at once or, where the action has to wait, in an effect. */
  const perform = (connection: Connection, action: Action, before: Outcome): Outcome | Effect.Effect<Outcome> => {
    const { member, socket } = connection
    switch (action._tag) {
      case "Send":
        return withMessage(before, action.message)
      case "Authenticate":
        connection.upgrade.authReceived()
        return Effect.map(login(connection, action), (next): Outcome => ({ ...before, next }))
      case "StoreCertificate":
        return Effect.map(
          storeCertificate(action, connection.upgrade.address),
          (next): Outcome => ({ ...before, next })
        )
      case "RecordFlood":
        return Effect.as(refuse(floodOf(connection)), before)
      case "Close":
        return { ...before, close: action.reason }
    }
    if (member === undefined) return before
    const { client } = member
    switch (action._tag) {
      case "RecordStatus":
        return Effect.as(reports.report({ client: client.ref, session: client.session }, action.status), before)
      case "StartView":
        // The messages before it go out with the snapshot, in one write.
        return Effect.as(
          forward(member, socket, { _tag: "Snapshot", greeting: before.messages }),
          { ...before, messages: initialOutcome.messages }
        )
      case "ResumeView":
        return Effect.as(forward(member, socket, { _tag: "Resume", resume: action.resume }), before)
      case "Resync":
        return Effect.as(forward(member, socket, { _tag: "Snapshot", greeting: [] }), before)
      case "RecordActivity":
        member.lastSeen.millis = connection.at
        return before
      case "Acknowledge":
        return deliveries.acknowledge(client, action.revision) ? before : { ...before, next: ackAhead }
      case "Reject":
        return Effect.map(
          deliveries.reject(client, action.nack),
          (isRecorded): Outcome => isRecorded ? before : { ...before, next: nackUnknown }
        )
      case "AnswerHeartbeat":
        return Effect.map(heartbeatAck(client, action.timestamp), (message) => withMessage(before, message))
    }
  }

  return {
    perform,
    /** Releases whatever the connection holds. */
    close: ({ member }: Connection): Effect.Effect<void> => member === undefined ? Effect.void : close(member)
  }
})

const withMessage = (before: Outcome, message: Message): Outcome => ({
  ...before,
  messages: [...before.messages, message]
})

/** Stores a certificate on behalf of its gateway. */
const makeStoreCertificate =
  (certificates: Certificates["Service"], refuse: ReturnType<typeof makeRefusals>) =>
  ({ gateway, certificate }: Extract<Action, { _tag: "StoreCertificate" }>, address: string): Effect.Effect<Event> =>
    certificates.storeObtained(gateway, certificate).pipe(
      actingAs(`gateway:${gateway}`, address),
      Effect.as<Event>({ _tag: "CertificateStored", domain: certificate.domain }),
      Effect.catchTags({
        CertificateRejected: ({ reason }) =>
          Effect.as(
            refuse({
              kind: "certificate",
              reason: "certificate_rejected",
              type: "gateway",
              text: `for ${certificate.domain} of gateway:${gateway} from ${address}: ${reason}`
            }),
            { _tag: "CertificateNotStored", code: "certificate_rejected", reason } satisfies Event
          ),
        StoreUnavailable: () =>
          Effect.succeed<Event>({
            _tag: "CertificateNotStored",
            code: "unavailable",
            reason: "the certificate could not be stored now; send it again"
          })
      })
    )

const ackAhead: Event = {
  _tag: "NotRecorded",
  code: "ack_ahead",
  reason: "this revision was not sent on this connection"
}

const nackUnknown: Event = {
  _tag: "NotRecorded",
  code: "nack_unknown",
  reason: "this revision was not sent on this connection, or it was acknowledged"
}

/** Names the revision that the client must have reached, because every message up to it was written before this answer. */
const heartbeatAck = Effect.fnUntraced(function*(client: Client, timestamp: number) {
  const serverTime = DateTime.formatIso(yield* DateTime.now)
  const data = { timestamp, serverTime, revision: client.delivery.lastMessageRevision }
  return { type: "heartbeat_ack", data } satisfies Message
})
