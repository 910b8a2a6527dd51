"""The entries of data sets, each with the exact layout that its loader expects under the data root."""

from __future__ import annotations

from purlkit.zoo.catalog.entries import DatasetEntry, Option

_SIZE = Option(default=224, low=16, high=1024, about="height and width that the images are brought to")


def _cifar(classes: int, folder: str, held: str) -> DatasetEntry:
    return DatasetEntry(
        name=f"cifar{classes}",
        loader=f"purlkit.zoo.datasets:cifar{classes}",
        shape=(3, 32, 32),
        classes=classes,
        about="60,000 colour images; training crops and mirrors them",
        files=(folder,),
        layout=f"the data root must hold the folder {folder} with {held}; unpack cifar-{classes}-python.tar.gz from "
        "https://www.cs.toronto.edu/~kriz/cifar.html there",
        downloads=True,
    )


def _har(name: str, classes: int, about: str) -> DatasetEntry:
    return DatasetEntry(
        name=name,
        loader=f"purlkit.zoo.signals:{name}",
        shape=(9, 1, 128),
        classes=classes,
        about=f"UCI HAR: {about}",
        files=("UCI HAR Dataset",),
        layout="the data root must hold the folder `UCI HAR Dataset` with train/ and test/, in each "
        "`Inertial Signals/` with the nine text files of body_acc, body_gyro and total_acc, y_….txt and "
        "subject_….txt; unpack https://archive.ics.uci.edu/dataset/240 there",
    )


DATASETS = {
    entry.name: entry
    for entry in (
        DatasetEntry(
            name="digits",
            loader="purlkit.zoo.datasets:digits",
            shape=(1, 8, 8),
            classes=10,
            about="1,797 real handwritten digits of scikit-learn; no files needed",
        ),
        _cifar(10, "cifar-10-batches-py", "data_batch_1 to data_batch_5, test_batch and batches.meta"),
        _cifar(100, "cifar-100-python", "train, test and meta"),
        DatasetEntry(
            name="imagenet",
            loader="purlkit.zoo.folders:imagenet",
            shape=(3, 224, 224),
            classes=1000,
            about="ILSVRC 2012: 1.28 million images of 1,000 classes, read as they are needed",
            files=("imagenet/train", "imagenet/val"),
            read_as_needed=True,
            layout="the data root must hold imagenet/train and imagenet/val, each with 1,000 folders of images named "
            "by their class, n01440764 to n15075141, as torchvision lays them out; https://image-net.org gives the "
            "files to those who register",
            options={"size": _SIZE},
        ),
        DatasetEntry(
            name="image-folder",
            loader="purlkit.zoo.folders:image_folder",
            shape=(3, 224, 224),
            classes=10,
            about="your own images: a folder for each class",
            files=("image-folder",),
            read_as_needed=True,
            layout="the data root must hold image-folder/<folder>/train and image-folder/<folder>/val, each with the "
            "same folders, one for each class, of JPEG, PNG, BMP, PPM or WebP files",
            options={
                "folder": Option(default="images", low=1, high=100, about="its name below image-folder"),
                "classes": Option(default=10, low=2, high=100_000, about="how many folders train and val have"),
                "size": _SIZE,
            },
        ),
        _har("har", 6, "nine inertial signals of a phone over 128 steps, six activities; 21 people train, 9 test"),
        _har("har2", 2, "its activities merged into two classes, as FastGRNN's paper does"),
        DatasetEntry(
            name="procedural",
            loader="purlkit.zoo.procedural:procedural",
            shape=(3, 32, 32),
            classes=10,
            about="made-up images of any shape, for load tests: blurred pictures of their class under noise",
            options={
                "shape": Option(default=(3, 32, 32), low=1, high=4096, about="channels, height, width"),
                "classes": Option(default=10, low=2, high=100_000, about="how many"),
                "images": Option(
                    default=2000, low=40, high=1_000_000, about="to train on; half as many in all to measure by"
                ),
                "seed": Option(default=0, low=0, high=2**31 - 1, about="decides every image"),
            },
        ),
    )
}
