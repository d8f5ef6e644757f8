/** Carries out what a session has decided; the only place where its actions touch the world. */
import { Certificates } from "#certificates/Certificates.ts"
import { textFrame } from "#feed/frames.ts"
import { encodeMessage } from "#schema/protocol.ts"
import type { Action, Event } from "#session/Session.ts"
import { TunnelReports } from "#tunnels/TunnelReports.ts"
import { Effect } from "effect"
import type { Buffer } from "node:buffer"
import type { Connection } from "./Connection.ts"
import { makeMembership } from "./membership.ts"
import { makeFollow } from "./outbound.ts"

export const makePerform = Effect.gen(function*() {
  const reports = yield* TunnelReports
  const certificates = yield* Certificates
  const membership = yield* makeMembership
  const follow = yield* makeFollow

  /** Answers only where a certificate was not stored: the plain level has no other receipt than the `config` that follows. */
  const storeCertificate = ({ gateway, certificate }: Extract<Action, { _tag: "StoreCertificate" }>) =>
    certificates.obtained(gateway, certificate).pipe(
      Effect.as<Event | undefined>(undefined),
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
        return member === undefined ? undefined : Effect.as(follow(member, socket, frames), undefined)
      case "Touch":
        if (member !== undefined) member.client.lastSeen = connection.at
        return undefined
      case "Report":
        return Effect.as(reports.report(action.agent, action.tunnels), undefined)
      case "StoreCertificate":
        return storeCertificate(action)
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
