/** Carries out what a session has decided; the only place where its actions touch the world. */
import { Certificates } from "#services/Certificates.ts"
import type { Client } from "#clients/ClientRegistry.ts"
import { Deliveries } from "#clients/Deliveries.ts"
import { textFrame } from "#views/frames.ts"
import type { Revision } from "#schema/ids.ts"
import { encodeMessage } from "#schema/protocol.ts"
import type { Action, Event } from "#session/Action.ts"
import { actingAs } from "#store/AuditActor.ts"
import { TunnelReports } from "#services/TunnelReports.ts"
import { DateTime, Effect } from "effect"
import type { Buffer } from "node:buffer"
import type { Connection } from "./ConnectionState.ts"
import { makeLogin } from "./login.ts"
import { makeForwarding } from "./forward.ts"

export const makePerform = Effect.gen(function*() {
  const reports = yield* TunnelReports
  const storeCertificate = yield* makeStoreCertificate
  const membership = yield* makeLogin
  const follow = yield* makeForwarding
  const { acknowledge, refuse } = yield* makeNotes

  /**
   * Does at once what can be done at once, and gives what remains to be waited for, with the event that comes of it. `frames`
   * collects what is to be written when all actions of an event are done.
   */
  const carryOut = (
    connection: Connection,
    action: Action,
    frames: Array<Buffer>
  ): Effect.Effect<Event | undefined> | undefined => {
    const { member, socket } = connection
    switch (action._tag) {
      case "Send":
        frames.push(textFrame(encodeMessage(action.message)))
        return undefined
      case "Authenticate":
        connection.upgrade.heard()
        return membership.enter(connection, action)
      case "Follow":
        return member === undefined ? undefined : Effect.as(follow(member, socket, { before: frames }), undefined)
      case "Welcome":
        return member === undefined
          ? undefined
          : Effect.as(follow(member, socket, { before: [], welcome: { resume: action.resume } }), undefined)
      case "Resync":
        return member === undefined ? undefined : Effect.as(follow(member, socket, { before: [] }), undefined)
      case "Touch":
        if (member !== undefined) member.client.lastSeen = connection.at
        return undefined
      case "Report":
        return Effect.as(reports.report(action.agent, action.tunnels), undefined)
      case "StoreCertificate":
        return storeCertificate(action, connection.upgrade.address)
      case "Acknowledge":
        return member === undefined ? undefined : acknowledge(member.client, action.revision)
      case "Refuse":
        return member === undefined ? undefined : refuse(member.client, action.nack)
      case "AnswerHeartbeat":
        return member === undefined ? undefined : answerHeartbeat(member.client, action.timestamp, frames)
      case "Close":
        socket.write(frames.splice(0))
        socket.close(action.reason)
        return undefined
    }
  }

  /** Gives back whatever the connection holds. */
  const giveBack = ({ member }: Connection): Effect.Effect<void> =>
    member === undefined ? Effect.void : membership.leave(member)

  return { carryOut, giveBack }
})

/** What became of a certificate, in the words of the session; it is stored in the gateway's name. */
const makeStoreCertificate = Effect.gen(function*() {
  const certificates = yield* Certificates
  return (
    { gateway, certificate }: Extract<Action, { _tag: "StoreCertificate" }>,
    address: string
  ): Effect.Effect<Event> =>
    certificates.obtained(gateway, certificate).pipe(
      actingAs(`gateway:${gateway}`, address),
      Effect.as<Event>({ _tag: "Stored", domain: certificate.domain }),
      Effect.catchTags({
        CertificateRejected: ({ reason }) =>
          Effect.succeed<Event>({ _tag: "NotStored", code: "certificate_rejected", reason }),
        StoreUnavailable: () =>
          Effect.succeed<Event>({
            _tag: "NotStored",
            code: "unavailable",
            reason: "the certificate could not be stored now; send it again"
          })
      })
    )
})

/** What clients say of what they were told; an answer only where it makes no sense. */
const makeNotes = Effect.gen(function*() {
  const deliveries = yield* Deliveries
  return {
    acknowledge: (client: Client, revision: Revision) =>
      deliveries.acknowledge(client, revision) ? undefined : Effect.succeed(ahead),
    refuse: (client: Client, nack: Extract<Action, { _tag: "Refuse" }>["nack"]) =>
      Effect.map(deliveries.refuse(client, nack), (isNoted) => isNoted ? undefined : unknownNack)
  }
})

const ahead: Event = {
  _tag: "NotNoted",
  code: "ack_ahead",
  reason: "this revision was not sent on this connection"
}

const unknownNack: Event = {
  _tag: "NotNoted",
  code: "nack_unknown",
  reason: "this revision was not sent on this connection, or it was acknowledged"
}

/** Names the place that the client must have reached by now: all that it was told was written before this. */
const answerHeartbeat = Effect.fnUntraced(function*(client: Client, timestamp: number, frames: Array<Buffer>) {
  const serverTime = DateTime.formatIso(yield* DateTime.now)
  const data = { timestamp, serverTime, revision: client.told }
  frames.push(textFrame(encodeMessage({ type: "heartbeat_ack", data })))
  return undefined
})
