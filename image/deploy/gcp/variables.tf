variable "name" {
  description = "Begins the names of all that is made."
  type        = string
  default     = "sallyport"
}

variable "project" {
  description = "The project's ID."
  type        = string
}

variable "region" {
  description = "The region, such as europe-west3."
  type        = string
}

variable "address" {
  description = "The external IPv4 address that people come to, reserved in the region. The configuration has it as listen.balanced."
  type        = string
}

variable "public_network" {
  description = "The network that people come in by. With one NIC, the only one."
  type        = string
}

variable "public_subnetwork" {
  description = "A subnetwork of it in the region."
  type        = string
}

variable "private_network" {
  description = "The network that leads to the targets, another one than public_network; empty for one NIC."
  type        = string
  default     = ""
}

variable "private_subnetwork" {
  description = "A subnetwork of it in the region."
  type        = string
  default     = ""
}

variable "instances" {
  description = "How many appliances stand for one. More than one need store_url."
  type        = number
  default     = 1

  validation {
    condition     = var.instances == 1 || var.store_url != ""
    error_message = "Several appliances need a database that they share: give store_url."
  }
}

variable "machine_type" {
  description = "The type of a VM. With two NICs it has at least two CPUs."
  type        = string
  default     = "n2d-standard-2"
}

variable "target_networks" {
  description = "Where SSH and RDP may go, as networks; the same as prefixes in the configuration."
  type        = list(string)
}

variable "service_networks" {
  description = "Where HTTPS may go, for an identity provider or a certificate authority, as networks."
  type        = list(string)
  default     = []
}

variable "store_port" {
  description = "The port of the database, which may be reached beside SSH and RDP."
  type        = number
  default     = 5432
}
