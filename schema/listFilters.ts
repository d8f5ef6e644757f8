/** Query parameters that filter lists. Filters combine, and the pages of a filtered list contain matching items only. */
import { Schema } from "effect"
import { HostNameFromInput } from "./ids.ts"
import { AgentReference, noNulCharacter } from "./resources.ts"
import { TunnelProtocol } from "./sharedFields.ts"

const text = Schema.String.check(Schema.isBetweenLength(1, 256), noNulCharacter)

const filter = <S extends Schema.Top>(schema: S, description: string) =>
  Schema.optionalKey(schema).annotate({ description })

const name = filter(text, "Only the client with this name, in any case.")

export const clientFilters = {
  name,
  status: filter(Schema.Literals(["online", "offline"]), "Only clients in this state."),
  q: filter(text, "Only clients whose name contains this text, whose id begins with it, or whose address it is.")
}

export const connectedClientFilters = { name, q: clientFilters.q }

export const tunnelFilters = {
  domain: filter(HostNameFromInput, "Only tunnels with this domain."),
  name: filter(text, "Only the tunnel with this name, in any case."),
  protocol: filter(TunnelProtocol, "Only tunnels of this protocol."),
  agent: filter(AgentReference, "Only tunnels of this agent (name or id)."),
  status: filter(text, "Only tunnels whose agent last reported this status, for example `active`."),
  q: filter(text, "Only tunnels whose domain, name or target contains this text, or whose id begins with it.")
}

export const certificateFilters = {
  domain: filter(HostNameFromInput, "Only the certificate of this domain."),
  q: filter(text, "Only certificates whose domain contains this text.")
}
