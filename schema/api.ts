/**
 * The HTTP API as one value: what may be asked, what is answered, what is refused. Handlers, documents and clients follow it.
 * A group stands in the file of its noun, `agentsApi.ts` and so on; what stores and services know too, such as a resource,
 * stands outside of those.
 */
import { HttpApi, OpenApi } from "effect/http-api"
import { AgentsGroup } from "./agentsApi.ts"
import { AuditGroup } from "./auditApi.ts"
import { CertificatesGroup } from "./certificatesApi.ts"
import { ClientsGroup } from "./clientsApi.ts"
import { EventsGroup } from "./eventsApi.ts"
import { GatewaysGroup } from "./gatewaysApi.ts"
import { HealthGroup } from "./healthApi.ts"
import { AgentKeysGroup, GatewayKeysGroup } from "./apiKeysApi.ts"
import { MasterKeyGroup } from "./masterKeyApi.ts"
import { NetworkGroup } from "./networkApi.ts"
import { NodesGroup } from "./nodesApi.ts"
import { TokensGroup } from "./adminTokensApi.ts"
import { TunnelsGroup } from "./tunnelsApi.ts"
import { BackupGroup, DoctorGroup } from "./upkeepApi.ts"

export class Api extends HttpApi.make("control")
  .add(
    AgentsGroup,
    AgentKeysGroup,
    GatewaysGroup,
    GatewayKeysGroup,
    TunnelsGroup,
    CertificatesGroup,
    ClientsGroup,
    AuditGroup,
    TokensGroup,
    EventsGroup,
    NetworkGroup,
    HealthGroup,
    NodesGroup,
    BackupGroup,
    DoctorGroup,
    MasterKeyGroup
  )
  .annotate(HttpApi.QueryParseOptions, { onExcessProperty: "error", errors: "all" })
  .annotate(HttpApi.PayloadParseOptions, { onExcessProperty: "error", errors: "all" })
  .annotateMerge(OpenApi.annotations({
    title: "Control",
    version: "1",
    description: "The operators' side of the control plane: agents, gateways, tunnels, certificates and keys. " +
      "Every refusal is `application/problem+json` (RFC 9457) with a `type` that stays the same between versions."
  }))
{}
