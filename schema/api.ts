/**
 * The HTTP API as one value: endpoints, responses and errors. Handlers, documents and clients derive from it.
 * Endpoints are grouped by resource, as in `agentsApi.ts`. Schemas that stores and services use too are in other files.
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
import { BackupGroup } from "./backupApi.ts"
import { DoctorGroup } from "./doctorApi.ts"

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
    description: "API for operators of the control plane: agents, gateways, tunnels, certificates and keys. " +
      "Every error is `application/problem+json` (RFC 9457). Its `type` stays the same between versions."
  }))
{}
