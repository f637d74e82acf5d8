// A version of the appliance's image in a gallery, from a VHD in a storage account, with a Secure Boot key of your own.

@description('Of the image. The gallery has the same, with _ for -.')
param name string = 'sallyport'

@description('The region.')
param location string = resourceGroup().location

@description('The version, such as 1.0.0.')
param version string

@description('Where the VHD lies, as page blob: https://ACCOUNT.blob.core.windows.net/images/sallyport-1.0.0-azure.vhd.')
param blobUri string

@description('The resource ID of the storage account that it lies in.')
param storageAccountId string

@description('The certificate, DER in base64, by which the image is signed for Secure Boot; empty for none.')
param secureBootCertificate string = ''

var always = [
  { name: 'IsAcceleratedNetworkSupported', value: 'True' }
  { name: 'DiskControllerTypes', value: 'SCSI, NVMe' }
]
var trusted = [
  { name: 'SecurityType', value: 'TrustedLaunchSupported' }
]

resource gallery 'Microsoft.Compute/galleries@2024-03-03' = {
  name: replace(name, '-', '_')
  location: location
  properties: {}
}

resource image 'Microsoft.Compute/galleries/images@2024-03-03' = {
  parent: gallery
  name: name
  location: location
  properties: {
    osType: 'Linux'
    osState: 'Generalized'
    hyperVGeneration: 'V2'
    architecture: 'x64'
    identifier: { publisher: 'sallyport', offer: 'appliance', sku: name }
    features: empty(secureBootCertificate) ? always : concat(always, trusted)
  }
}

resource imageVersion 'Microsoft.Compute/galleries/images/versions@2024-03-03' = {
  parent: image
  name: version
  location: location
  properties: {
    publishingProfile: {
      targetRegions: [
        { name: location, regionalReplicaCount: 1, storageAccountType: 'Standard_LRS' }
      ]
    }
    storageProfile: {
      osDiskImage: {
        hostCaching: 'ReadWrite'
        source: { uri: blobUri, storageAccountId: storageAccountId }
      }
    }
    // The key comes beside those of Microsoft: without their template Azure wants a platform key and a key exchange key too.
    securityProfile: empty(secureBootCertificate) ? null : {
      uefiSettings: {
        signatureTemplateNames: [ 'MicrosoftUefiCertificateAuthorityTemplate' ]
        additionalSignatures: {
          db: [
            { type: 'x509', value: [ secureBootCertificate ] }
          ]
        }
      }
    }
  }
}

output imageVersionId string = imageVersion.id
