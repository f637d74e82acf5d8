# The image: the VHD is uploaded and becomes a version of an image in a gallery, from which VMs are made.

variable "vhd" {
  description = "Path of sallyport-VERSION-azure.vhd; empty where image_version_id is given."
  type        = string
  default     = ""
}

variable "image_version" {
  description = "The image's version, such as 1.0.0. A new one is a new image."
  type        = string
  default     = "1.0.0"
}

variable "image_version_id" {
  description = "A version of a gallery's image that is there already, such as one by image.bicep with Secure Boot keys of your own."
  type        = string
  default     = ""
}

locals {
  upload   = var.image_version_id == "" ? 1 : 0
  image_id = var.image_version_id == "" ? one(azurerm_shared_image_version.this[*].id) : var.image_version_id
}

resource "azurerm_storage_account" "this" {
  count                           = local.upload
  name                            = substr("${replace(var.name, "-", "")}${random_string.suffix.result}", 0, 24)
  resource_group_name             = azurerm_resource_group.this.name
  location                        = azurerm_resource_group.this.location
  account_tier                    = "Standard"
  account_replication_type        = "LRS"
  min_tls_version                 = "TLS1_2"
  allow_nested_items_to_be_public = false
}

resource "azurerm_storage_container" "this" {
  count                 = local.upload
  name                  = "images"
  storage_account_id    = azurerm_storage_account.this[0].id
  container_access_type = "private"
}

resource "azurerm_storage_blob" "this" {
  count                  = local.upload
  name                   = "${var.name}-${var.image_version}.vhd"
  storage_account_name   = azurerm_storage_account.this[0].name
  storage_container_name = azurerm_storage_container.this[0].name
  type                   = "Page"
  source                 = var.vhd
}

resource "azurerm_shared_image_gallery" "this" {
  count               = local.upload
  name                = replace(var.name, "-", "_")
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
}

resource "azurerm_shared_image" "this" {
  count                               = local.upload
  name                                = var.name
  gallery_name                        = azurerm_shared_image_gallery.this[0].name
  resource_group_name                 = azurerm_resource_group.this.name
  location                            = azurerm_resource_group.this.location
  os_type                             = "Linux"
  hyper_v_generation                  = "V2"
  architecture                        = "x64"
  accelerated_network_support_enabled = true
  disk_controller_type_nvme_enabled   = true

  identifier {
    publisher = "sallyport"
    offer     = "appliance"
    sku       = var.name
  }
}

# An appliance that runs keeps its image when the next version is here.
resource "azurerm_shared_image_version" "this" {
  count               = local.upload
  name                = var.image_version
  gallery_name        = azurerm_shared_image_gallery.this[0].name
  image_name          = azurerm_shared_image.this[0].name
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  blob_uri            = azurerm_storage_blob.this[0].url
  storage_account_id  = azurerm_storage_account.this[0].id

  target_region {
    name                   = azurerm_resource_group.this.location
    regional_replica_count = 1
  }

  lifecycle {
    create_before_destroy = true
  }
}
