/** HTTP API endpoints for certificates. */
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import {
  Authorization,
  changeResponse,
  deletedResponse,
  describeEndpoint,
  listEndpoint,
  Validation
} from "./apiParts.ts"
import { waitQuery } from "./delivery.ts"
import { HostNameFromInput } from "./ids.ts"
import { certificateFilters } from "./listFilters.ts"
import * as Problem from "./problems.ts"
import * as Resource from "./resources.ts"

const domain = { domain: HostNameFromInput }

export class CertificatesGroup extends HttpApiGroup.make("certificates").add(
  listEndpoint("/api/certificates", Resource.Certificate, "List certificates", certificateFilters),
  HttpApiEndpoint.get("get", "/api/certificates/:domain", {
    params: domain,
    success: Resource.Certificate,
    error: [Problem.CertificateNotFound, Problem.UnreadableRow, Problem.StoreUnavailable]
  }).annotateMerge(describeEndpoint("read", "Get a certificate", "The private key is not included.")),
  HttpApiEndpoint.put("put", "/api/certificates/:domain", {
    params: domain,
    query: waitQuery,
    payload: Resource.CertificatePut,
    success: changeResponse(Resource.Certificate, "ChangedCertificate"),
    error: [Problem.CertificateRejected, Problem.StoreUnavailable]
  }).annotateMerge(
    describeEndpoint(
      "operate",
      "Store a certificate",
      "Replaces the certificate of this domain, if there is one. The status is 200 in both cases."
    )
  ),
  HttpApiEndpoint.delete("remove", "/api/certificates/:domain", {
    params: domain,
    query: waitQuery,
    success: deletedResponse,
    error: [Problem.CertificateNotFound, Problem.StoreUnavailable]
  }).annotateMerge(describeEndpoint("operate", "Delete a certificate"))
).middleware(Validation).middleware(Authorization).annotateMerge(OpenApi.annotations({ title: "Certificates" })) {}
