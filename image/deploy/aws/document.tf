# What the appliance is told: the configuration, and what it names, as one document.

variable "configuration" {
  description = "Path of the configuration, such as ../samples/two-nics.yaml. It must not have the keys files and store."
  type        = string
}

variable "files" {
  description = "What the configuration names: name beside it => path here. Such as {\"access.yaml\" = \"access.yaml\"}."
  type        = map(string)
  default     = {}
}

variable "store_url" {
  description = "The database of a fleet, such as postgres://sallyport@db.example/sallyport?sslmode=verify-full. It holds no password."
  type        = string
  default     = ""
}

variable "store_password" {
  description = "The password of the database's user."
  type        = string
  default     = ""
  sensitive   = true
}

locals {
  secrets = { for name, text in { "store.password" = var.store_password } : name => text if text != "" }
  texts   = merge({ for name, path in var.files : name => file(path) }, local.secrets)
  store   = { for key, url in { store = var.store_url } : key => merge({ url = url }, { for name, text in local.secrets : "password_file" => name }) if url != "" }

  # What is added comes after the configuration, so that what is wrong with that is told with its own lines. Each text
  # stands below its name, indented.
  document = join("", concat(
    [file(var.configuration)],
    [for texts in [local.texts] : "\nfiles:\n" if length(texts) > 0],
    [for name, text in local.texts : "  ${name}: |\n    ${indent(4, chomp(text))}\n"],
    [for store in [local.store] : "\n${yamlencode(store)}" if length(store) > 0],
  ))
}
